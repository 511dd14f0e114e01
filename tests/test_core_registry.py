"""Registries, settings read from source text, and error messages."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kinshot
from kinshot.cli import parts
from kinshot.core.errors import CheckpointError, ConfigError, DataError, DivergedError, Interrupted, KinshotError, suggest
from kinshot.core.registry import Registry
from kinshot.core.schema import REQUIRED, Parameter, check_parameters, convert, read_parameters

# -- convert: what goes in as one type comes out as it, everything else is refused

LITERALS = ["Literal['a', 'b']", "Literal[1, 2]", "Literal[True, 'auto']", "Literal['x|y', 'p, q']"]
SCALARS = ["int", "float", "bool", "str"]
ANNOTATIONS = st.recursive(
    st.sampled_from(SCALARS + LITERALS),
    lambda inner: st.one_of(
        inner.map(lambda t: f"tuple[{t}, ...]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda ts: f"tuple[{', '.join(ts)}]"),
        inner.map(lambda t: f"{t} | None"),
        st.tuples(inner, inner).map(" | ".join),
    ),
    max_leaves=4,
)
TEXTS = ["a", "b", "auto", "x|y", "1e-4", "-.5", "nan", "1.2.3", ""]
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(TEXTS)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
# beyond 64 bits, too: Python reads such numbers from YAML
NUMBERS = st.one_of(PLAIN, st.sampled_from([10**400, -(10**400), 2**63]))


def python_type(annotation: str) -> Any:
    names = {"int": int, "float": float, "bool": bool, "str": str, "tuple": tuple, "Literal": Literal, "None": None}

    def build(node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp):
            return build(node.left) | build(node.right)
        if isinstance(node, ast.Subscript):
            head = build(node.value)
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if head is Literal:
                return Literal[tuple(ast.literal_eval(i) for i in items)]
            inner = [... if isinstance(i, ast.Constant) and i.value is ... else build(i) for i in items]
            return tuple.__class_getitem__(tuple(inner))
        return names[node.id] if isinstance(node, ast.Name) else None

    return build(ast.parse(annotation, mode="eval").body)


def belongs(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, by Python's own description of the type."""
    if kind is type(None) or kind is None:
        return value is None
    if get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if inner[-1:] == (...,):
            return all(belongs(v, inner[0]) for v in value)
        return len(value) == len(inner) and all(map(belongs, value, inner))
    if get_args(kind):
        return any(belongs(value, option) for option in get_args(kind))
    return type(value) is kind and (kind is not float or math.isfinite(value))


@given(NUMBERS, ANNOTATIONS)
def test_convert_gives_the_type_or_refuses(value: Any, annotation: str) -> None:
    kind = python_type(annotation)
    try:
        converted = convert(value, annotation)
    except ValueError:
        assert not belongs(value, kind)
        return
    assert belongs(converted, kind)
    assert convert(converted, annotation) == converted
    if belongs(value, kind):
        assert converted == value


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("1e-4", "float", 1e-4),
        ("-2.5E+3", "float", -2500.0),
        (3, "float", 3.0),
        ([1, 2], "tuple[float, float]", (1.0, 2.0)),
        ([[1, 2], [3, 4]], "tuple[tuple[int, int], ...]", ((1, 2), (3, 4))),
        ([], "tuple[int, ...]", ()),
        (None, "int | None", None),
        ("auto", "float | Literal['auto']", "auto"),
        (1, "int | float", 1),
        (True, "Literal[True, 'auto']", True),
    ],
)
def test_convert_examples(value: Any, annotation: str, expected: Any) -> None:
    converted = convert(value, annotation)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, "int"),
        (1, "bool"),
        (1.0, "int"),
        (True, "float"),
        (math.nan, "float"),
        ("inf", "float"),
        (10**400, "float"),
        ("1e999", "float"),
        ("\u0661", "float"),
        (".", "float"),
        (True, "Literal[1, 2]"),
        (1, "Literal[True, 'auto']"),
        (1.0, "Literal[1, 2]"),
        (1.5, "str"),
        (True, "str"),
        ("ab", "tuple[str, ...]"),
        ([1], "tuple[int, int]"),
        (None, "int"),
        ({}, "int | None"),
    ],
)
def test_convert_refuses(value: Any, annotation: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        convert(value, annotation)


def test_check_parameters_reports_everything_at_once() -> None:
    parameters = {
        "width": Parameter("width", "int", 3),
        "rate": Parameter("rate", "float", REQUIRED, "learning rate"),
        "mode": Parameter("mode", "Literal['fast', 'slow']", "fast"),
    }
    checked, problems = check_parameters({"widht": 1, "mode": "fats"}, parameters, "method x")
    assert checked == {"width": 3}
    assert len(problems) == 3
    text = "\n".join(problems)
    assert "did you mean 'width'" in text
    assert "rate is required (float): learning rate" in text
    assert "did you mean 'fast'" in text


# -- settings read from source text equal what Python sees

PARTS = '''
from __future__ import annotations
from typing import Literal
import torch
from fake.registry import REG

@REG.register("first")
@REG.register("alias")
class First:
    """A first part.

    Paper: nobody.

    Args:
        width: how wide
            it is, over two lines.
        ways: of doing it.

    More: not an argument.
    """

    def __init__(self, encoder, *, width: int = 3, rate: float, ways: tuple[Literal["a", "b"], ...] = ("a",), shift: float = -1.5,
                 limit: int | None = None, size: tuple[int, int] = (2, 3), wired: torch.Tensor | None = None, free=None) -> None:
        self.got = (encoder, width, rate, ways, shift, limit, size, wired)

@REG.register("second")
def second(x, /, y=1, *rest, on: bool = True, name: str = "n", **more):
    return x, on, name

class Unregistered:
    def __init__(self, *, a: int = 1) -> None: ...

@REG.register("bare")
class Bare:
    """No settings."""
'''


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """Make a package `fake` with a registry and part files of the given texts."""

    def make(**files: str) -> Registry:
        for folder in (tmp_path / "fake", tmp_path / "fake" / "parts"):
            folder.mkdir()
            (folder / "__init__.py").write_text("")
        text = "from kinshot.core.registry import Registry\nREG = Registry('widget', 'fake.parts')\n"
        (tmp_path / "fake" / "registry.py").write_text(text)
        for name, text in files.items():
            (tmp_path / "fake" / "parts" / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in [n for n in sys.modules if n.partition(".")[0] == "fake"]:
            monkeypatch.delitem(sys.modules, name)
        return importlib.import_module("fake.registry").REG

    return make


def assert_settings_match(entry_parameters: dict[str, Parameter], part: Any) -> None:
    """Every keyword-only parameter of the part with a type that settings may have, with its default, and no other."""
    function = part.__init__ if inspect.isclass(part) else part
    if inspect.isclass(part) and "__init__" not in vars(part):
        assert entry_parameters == {}
        return
    seen = {n: p for n, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert set(entry_parameters) <= set(seen)
    for name, parameter in entry_parameters.items():
        default = REQUIRED if seen[name].default is inspect.Parameter.empty else seen[name].default
        assert parameter.default == default
        assert type(parameter.default) is type(default)
        assert python_type(parameter.annotation) == get_type_hints(function)[name]
        if default is not REQUIRED:
            assert belongs(convert(default, parameter.annotation), python_type(parameter.annotation))


def test_settings_equal_the_signature(fake: Callable[..., Registry]) -> None:
    registry = fake(parts=PARTS, other="x = 1\n")
    assert registry.names() == ["alias", "bare", "first", "second"]
    assert "fake.parts.parts" not in sys.modules
    for name in registry.names():
        assert_settings_match(registry.entry(name).parameters, registry.get(name))
    first = registry.entry("first")
    assert list(first.parameters) == ["width", "rate", "ways", "shift", "limit", "size"]
    assert first.summary == "A first part."
    assert first.parameters["width"].help == "how wide it is, over two lines."
    assert first.parameters["ways"].help == "of doing it."
    assert first.parameters["rate"].default is REQUIRED
    assert list(registry.entry("second").parameters) == ["on", "name"]
    assert registry.entry("bare").parameters == {}


def test_build_checks_wires_and_converts(fake: Callable[..., Registry]) -> None:
    registry = fake(parts=PARTS)
    part = registry.build("first", "encoder", settings={"rate": "1e-3", "size": [4, 5]}, wired="w")
    assert part.got == ("encoder", 3, 1e-3, ("a",), -1.5, None, (4, 5), "w")
    with pytest.raises(ConfigError) as caught:
        registry.build("first", settings={"width": "wide", "wired": 1})
    for message in ("unknown key 'wired'", "width: expected int, got 'wide'", "rate is required"):
        assert message in str(caught.value)
    with pytest.raises(ConfigError, match="unknown widget 'frist': did you mean 'first'"):
        registry.get("frist")


def test_two_parts_of_one_name_are_refused(fake: Callable[..., Registry]) -> None:
    registry = fake(one=PARTS, two=PARTS)
    with pytest.raises(ConfigError, match=r"registered by fake\.parts\.one and by fake\.parts\.two"):
        registry.names()


STRANGE = """
TEXT = '''
from here import (nothing
@REG.register('no')
def no(: ...
'''
from fake.registry import (
    REG,
)


@REG.register(
    'one',
)
def one(
    *, size: int = 3
):
    '''A part.

    Args:
        size: of it.
    '''
    return size
"""


def test_a_file_whose_text_looks_like_code_is_read_whole(fake: Callable[..., Registry]) -> None:
    registry = fake(one=STRANGE, two=PARTS)
    assert registry.names() == ["alias", "bare", "first", "one", "second"]
    assert registry.entry("one").parameters["size"] == Parameter("size", "int", 3, "of it.")


def test_a_part_of_another_registry_is_named(fake: Callable[..., Registry]) -> None:
    text = "from kinshot.core.registry import Registry\nOTHER = Registry('x', 'y')\n@OTHER.register('lost')\ndef lost(): ...\n"
    registry = fake(one=text)
    with pytest.raises(ConfigError, match=r"fake\.parts\.one does not register widget 'lost'"):
        registry.get("lost")


def test_a_default_that_is_no_literal_is_named() -> None:
    node = ast.parse("def f(*, rate: float = 1 / 3): ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    with pytest.raises(ConfigError, match=r"f: setting rate has the default 1 / 3"):
        read_parameters(node, "")


# -- kinshot's own registries


def own_registries() -> list[tuple[str, str]]:
    """Module and name of every registry in kinshot's source."""
    package = Path(kinshot.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        for line in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(line, ast.Assign) and isinstance(line.value, ast.Call) and ast.unparse(line.value.func) in ("Registry", "Heads"):
                module = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
                found.append((module, ast.unparse(line.targets[0])))
    return found


REGISTRIES = own_registries()


def test_commands_know_every_registry() -> None:
    assert {"kinshot.learn", "kinshot.fewshot", "kinshot.datasets"} <= {module for module, _ in REGISTRIES}
    assert {id(getattr(importlib.import_module(module), name)) for module, name in REGISTRIES} == set(map(id, parts.REGISTRIES))


@pytest.mark.parametrize(("module", "name"), REGISTRIES)
def test_every_registered_part_has_the_settings_that_its_source_says(module: str, name: str) -> None:
    registry: Registry = getattr(importlib.import_module(module), name)
    for part in registry.names():
        assert_settings_match(registry.entry(part).parameters, registry.get(part))
        assert registry.entry(part).summary


def test_reading_names_imports_no_torch() -> None:
    lines = [f"import {module}\n{module}.{name}.names()" for module, name in REGISTRIES]
    code = "\n".join(["import sys", *lines, "raise SystemExit('torch' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


# -- errors


def test_exit_codes() -> None:
    assert [e.exit_code for e in (KinshotError, ConfigError, DataError, CheckpointError, DivergedError)] == [1, 2, 3, 3, 4]
    assert [Interrupted("", s).exit_code for s in (2, 15)] == [130, 143]
    assert str(Interrupted("stopped at step 3", 2)) == "stopped at step 3"


NAMES = st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=30, unique=True)


@given(NAMES, st.text("abcdefg", max_size=6))
def test_suggest_names_a_valid_choice(choices: list[str], name: str) -> None:
    hint = suggest(name, choices)
    if name in choices:
        assert hint == f"did you mean {name!r}?"
    if hint.startswith("did you mean"):
        assert any(repr(c) in hint for c in choices)
    elif len(choices) <= 12:
        assert hint == "valid names: " + ", ".join(sorted(choices))
    else:
        assert f"one of {len(choices)} names" in hint
