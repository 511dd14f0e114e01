"""The names that kinshot shows: loaded on first use, the part and never its file, and known to type checkers."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import kinshot
from kinshot.core.lazy import Declared, Face, face
from kinshot.core.registry import Registry

PACKAGE = Path(kinshot.__file__).parent
FACES: dict[str, Face] = {
    name: module
    for name in kinshot.__offer__.names()  # type: ignore[attr-defined]
    if isinstance(module := getattr(kinshot, name), Face)
}
OF_PARTS = {name: module for name, module in FACES.items() if isinstance(module.__offer__, Registry)}


def test_the_face_costs_next_to_nothing() -> None:
    heavy = "{'torch', 'numpy', 'yaml', 'importlib.metadata', 'ast'}"
    code = f"import sys, kinshot; found = {heavy} & sys.modules.keys(); sys.exit(str(found) if found else 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_names_are_listed_without_importing_torch() -> None:
    lines = [f"import kinshot; assert {name!r} in dir(kinshot); kinshot.{name}; assert len(dir(kinshot.{name})) > 3" for name in FACES]
    code = "\n".join([*lines, "import sys; sys.exit('torch' in sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_is_what_its_place_defines() -> None:
    for module in (kinshot, *FACES.values()):
        if isinstance(offer := module.__offer__, Declared):  # type: ignore[union-attr]
            for name, (place, attribute) in offer.places.items():
                assert getattr(module, name) is getattr(importlib.import_module(place), attribute)
                assert name in dir(module)


@pytest.mark.parametrize("name", OF_PARTS)
def test_every_part_is_shown_whatever_was_imported_before(name: str) -> None:
    registry = OF_PARTS[name].__offer__
    assert isinstance(registry, Registry)
    for part, entry in registry.entries.items():
        importlib.import_module(entry.module)
        assert getattr(OF_PARTS[name], part) is registry.get(part), f"kinshot.{name}.{part}"
    assert set(registry.names()) <= set(dir(OF_PARTS[name]))


@pytest.mark.parametrize("name", OF_PARTS)
def test_no_part_has_the_name_of_another_file(name: str) -> None:
    """The import system would bind the file to the part's name."""
    registry = OF_PARTS[name].__offer__
    assert isinstance(registry, Registry)
    package = OF_PARTS[name].__name__
    files = {path.stem for path in Path(OF_PARTS[name].__file__ or "").parent.iterdir()} if package in registry.packages else set()
    assert [part for part, entry in registry.entries.items() if part in files and entry.module != f"{package}.{part}"] == []


def test_faces_hide_what_they_were_made_with() -> None:
    for module in (kinshot, *FACES.values()):
        assert {"face", "Any", "TYPE_CHECKING", "Registry", "Declared", "annotations"} & set(dir(module)) == set()


def test_a_wrong_name_gets_the_closest_one() -> None:
    with pytest.raises(AttributeError, match="module 'kinshot' has no attribute 'laod': did you mean 'load'"):
        _ = kinshot.laod  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"'kinshot\.heads' has no attribute 'prototyp': did you mean 'prototype'"):
        _ = kinshot.heads.prototyp
    with pytest.raises(ImportError, match="cannot import name 'tmi'"):
        exec("from kinshot.heads import tmi")
    assert not hasattr(kinshot.heads, "__wrapped__")


# -- a part and the file of its name, in a package of its own: which of them was asked for first must not matter

PART = "from fake.tools import REG\n@REG.register('{0}')\ndef {0}(): return '{0}'\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], ModuleType]]:
    """Import the package `fake.tools`, a face with the parts `hammer` and `saw` and the plain file `bench`, anew."""
    folder = tmp_path / "fake" / "tools"
    folder.mkdir(parents=True)
    (tmp_path / "fake" / "__init__.py").write_text("")
    made = "from kinshot.core.lazy import face\nfrom kinshot.core.registry import Registry\n"
    (folder / "__init__.py").write_text(f"{made}REG = Registry('tool', 'fake.tools')\nface(__name__, REG)\n")
    for name in ("hammer", "saw"):
        (folder / f"{name}.py").write_text(PART.format(name))
    (folder / "bench.py").write_text("from fake.tools.saw import saw\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget() -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] == "fake"]:
            del sys.modules[name]

    def fresh() -> ModuleType:
        forget()
        return importlib.import_module("fake.tools")

    yield fresh
    forget()


def test_name_before_file(package: Callable[[], ModuleType]) -> None:
    tools = package()
    assert "fake.tools.hammer" not in sys.modules
    function = tools.hammer
    assert function() == "hammer"
    file = importlib.import_module("fake.tools.hammer")
    assert isinstance(file, ModuleType)
    assert tools.hammer is function is file.hammer


def test_file_before_name(package: Callable[[], ModuleType]) -> None:
    tools = package()
    file = importlib.import_module("fake.tools.hammer")
    assert tools.hammer is file.hammer
    exec("from fake.tools import hammer; assert hammer() == 'hammer'")
    exec("from fake.tools.hammer import hammer; assert hammer() == 'hammer'")
    exec("import fake.tools.hammer; assert fake.tools.hammer() == 'hammer'")


def test_file_imported_by_another_file(package: Callable[[], ModuleType]) -> None:
    tools = package()
    exec("import fake.tools.bench")
    assert tools.saw() == "saw"
    assert isinstance(tools.bench, ModuleType)


def test_names_cost_no_reading_while_files_are_imported(package: Callable[[], ModuleType]) -> None:
    tools = package()
    exec("import fake.tools.bench, fake.tools.saw")
    assert "entries" not in vars(tools.REG)


def test_a_module_becomes_a_face_in_one_line(package: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    package()
    monkeypatch.setitem(sys.modules, "fake.front", ModuleType("fake.front"))
    face("fake.front", importlib.import_module("fake.tools").REG)
    assert set(dir(sys.modules["fake.front"])) >= {"hammer", "saw"}
    assert sys.modules["fake.front"].saw() == "saw"


# -- types

STUBS = sorted(path for path in (PACKAGE / "typed").glob("*.pyi") if path.stem != "__init__")


def test_faces_of_parts_have_lists_for_type_checkers() -> None:
    assert {path.stem for path in STUBS} == OF_PARTS.keys()
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.stem)
def test_what_type_checkers_are_told_is_so(stub: Path) -> None:
    """A part that is not in the list yet has no type and works all the same; what is in it must be right."""
    entries = OF_PARTS[stub.stem].__offer__.entries  # type: ignore[attr-defined]
    lines = [line for line in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(line, ast.ImportFrom)]
    told = {alias.asname: (line.module, alias.name) for line in lines for alias in line.names}
    assert told
    assert {name: (entries[name].module, entries[name].symbol) for name in told if name in entries} == told
