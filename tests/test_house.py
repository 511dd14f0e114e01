"""The rules of the house, read off the source: direction of imports, forbidden calls, sizes, and packaging."""

from __future__ import annotations

import ast
import graphlib
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "kinshot"

# docs/architecture.md, "The house": from the bottom up; those of one line never import one another
FLOORS: list[set[str]] = [
    {"core"},
    {"samples"},
    {"kin"},
    {"objectives"},
    {"encoders"},
    {"datasets"},
    {"learn"},
    {"ssl", "fewshot", "segmentation"},
    {"recipes"},
    {"runs"},
    {"exports", "index", "sklearn"},
    {"studies"},
    {"studio"},
    {"cli"},
]
ROOMS = set().union(*FLOORS)
MAY_IMPORT = {room: set().union(*FLOORS[:level], {room}) for level, floor in enumerate(FLOORS) for room in floor}

# Libraries that one corner of the house keeps to itself: path prefixes inside kinshot/ that may import them.
KEPT_IN = {
    "click": ("cli/",),
    "rich": ("cli/", "core/progress"),
    "tensorboard": ("learn/",),
    "starlette": ("studio/",),
    "uvicorn": ("studio/",),
    "wandb": ("learn/loggers/",),
    "mlflow": ("learn/loggers/",),
    "pickletools": ("datasets/safe_pickle", "datasets/cifar"),
}
TORCH_LOAD_IN = "core/weight_files.py"
SAFE_IN_C = "getattr(yaml, 'CSafeLoader', yaml.SafeLoader)"
NEVER_IMPORTED = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "random"}
FORBIDDEN_CALLS = {
    "torch.save": "files are written by safetensors",
    "eval": "text is never run",
    "exec": "text is never run",
    "np.random.seed": "randomness is keyed",
    "torch.manual_seed": "randomness is keyed",
    "torch.seed": "randomness is keyed",
    "torch.cuda.manual_seed": "randomness is keyed",
    "torch.cuda.manual_seed_all": "randomness is keyed",
}
NUMPY_RANDOM = {"Generator", "default_rng", "SeedSequence", "Philox", "PCG64"}


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(REPOSITORY).as_posix()

    @property
    def inside(self) -> str:
        return self.path.relative_to(PACKAGE).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text)))


HOUSE = [Source(path) for path in sorted(PACKAGE.rglob("*.py"))]
EVERYTHING = [*HOUSE, *(Source(path) for folder in ("tests", "benchmarks") for path in sorted((REPOSITORY / folder).rglob("*.py")))]


def imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that a node imports; `from a import b` gives a.b, as b may be a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def misdirected(source: Source) -> list[str]:
    """Imports that point up the house or sideways."""
    # kinshot/__init__.py is the face of the package and may show any part of it
    allowed = MAY_IMPORT[source.inside.split("/")[0] if "/" in source.inside else "cli"]
    wrong = []
    for node in source.nodes:
        for name in imported(node):
            part = name.split(".")[1] if name.startswith("kinshot.") else ""
            if part in MAY_IMPORT and part not in allowed:
                wrong.append(f"{source.name}:{node.lineno} imports {name}")  # type: ignore[attr-defined]
    return wrong


def dotted(node: ast.AST) -> str:
    """`a.b.c` for an attribute of a plain name, else the empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def forbidden(source: Source) -> list[str]:
    """Calls and statements that the house does without."""
    found = []
    safe = {"yaml.SafeLoader"}  # and a name for the same in C, where there is one
    safe |= {ast.unparse(n.target) for n in source.nodes if isinstance(n, ast.AnnAssign) and n.value and ast.unparse(n.value) == SAFE_IN_C}
    safe_loaders = {n.name for n in source.nodes if isinstance(n, ast.ClassDef) and safe & set(map(ast.unparse, n.bases))}
    for node in source.nodes:
        where = f"{source.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Assert):
            found.append(f"{where} assert: vanishes under -O; raise an error of kinshot.core.errors")
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append(f"{where} relative import")
        if isinstance(node, ast.Call):
            found += [f"{where} {complaint}" for complaint in call_complaints(node, source.inside, safe_loaders)]
    return found


def call_complaints(call: ast.Call, inside: str, safe_loaders: set[str]) -> Iterator[str]:
    """What is wrong with one call."""
    name = dotted(call.func).replace("numpy.", "np.", 1)
    if name == "print" and not inside.startswith("cli/"):
        yield "print: log, or return what is to be printed"
    if name in FORBIDDEN_CALLS:
        yield f"{name}: {FORBIDDEN_CALLS[name]}"
    if name.startswith("np.random.") and name.split(".")[2] not in NUMPY_RANDOM:
        yield f"{name}: draws from the global state"
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name == "torch.load" and (inside != TORCH_LOAD_IN or keywords.get("weights_only") != "True"):
        yield f"torch.load: files are read by safetensors; other people's, by {TORCH_LOAD_IN} alone, with weights_only=True"
    if name == "np.load" and keywords.get("allow_pickle") != "False":
        yield "np.load without allow_pickle=False"
    if name == "yaml.load" and keywords.get("Loader", ast.unparse(call.args[-1]) if call.args else "") not in safe_loaders:
        yield "yaml.load without a loader made from yaml.SafeLoader: use yaml.safe_load"


def foreign(source: Source) -> list[str]:
    """Imports of libraries that this file has no business with."""
    found = []
    for node in source.nodes:
        for name in imported(node):
            library = name.split(".")[0]
            if library in NEVER_IMPORTED or not source.inside.startswith(KEPT_IN.get(library, ("",))):
                found.append(f"{source.name}:{node.lineno} imports {library}")  # type: ignore[attr-defined]
    return found


def test_the_house_is_found() -> None:
    assert {source.inside.split("/")[0] for source in HOUSE} >= MAY_IMPORT.keys()


@pytest.mark.parametrize("rule", [misdirected, forbidden, foreign])
def test_every_file_keeps_the_rule(rule: Callable[[Source], list[str]]) -> None:
    assert [complaint for source in HOUSE for complaint in rule(source)] == []


@pytest.mark.parametrize(
    ("inside", "line", "rule"),
    [
        ("ssl/x.py", "from kinshot.fewshot import episodes", misdirected),
        ("ssl/x.py", "from kinshot import fewshot", misdirected),
        ("core/x.py", "import kinshot.objectives.contrastive", misdirected),
        ("objectives/x.py", "from kinshot.datasets.base import Source", misdirected),
        ("kin/x.py", "from kinshot.objectives import info_nce", misdirected),
        ("runs/x.py", "import kinshot.studies.evaluate", misdirected),
        ("recipes/x.py", "import kinshot.cli.ssl", misdirected),
        ("core/x.py", "from .errors import ConfigError", forbidden),
        ("core/x.py", "print('hello')", forbidden),
        ("core/x.py", "assert True", forbidden),
        ("core/x.py", "torch.load('x')", forbidden),
        ("core/x.py", "torch.load('x', weights_only=True)", forbidden),
        ("core/weight_files.py", "torch.load('x')", forbidden),
        ("core/weight_files.py", "torch.load('x', weights_only=False)", forbidden),
        ("core/x.py", "numpy.load('x')", forbidden),
        ("core/x.py", "np.load('x', allow_pickle=True)", forbidden),
        ("core/x.py", "yaml.load(text, Loader=yaml.Loader)", forbidden),
        ("core/x.py", "np.random.rand(3)", forbidden),
        ("recipes/x.py", "import click", foreign),
        ("core/x.py", "import pickle", foreign),
        ("datasets/x.py", "from pickletools import genops", foreign),
    ],
)
def test_a_rule_can_fail(inside: str, line: str, rule: Callable[[Source], list[str]]) -> None:
    source = Source(PACKAGE / inside)
    source.__dict__["text"] = line  # fills the cached property
    assert rule(source)


@pytest.mark.parametrize(
    ("inside", "line", "rule"),
    [
        ("ssl/x.py", "from kinshot.objectives import contrastive", misdirected),
        ("cli/x.py", "import click; from rich import print; print('hello')", foreign),
        ("cli/x.py", "print('hello')", forbidden),
        ("datasets/cifar.py", "import pickletools", foreign),
        ("core/weight_files.py", "torch.load('x', weights_only=True)", forbidden),
        ("core/x.py", "class Strict(yaml.SafeLoader): pass\nyaml.load(text, Strict); yaml.load(text, Loader=Strict)", forbidden),
        ("core/x.py", "np.load('x', allow_pickle=False); np.random.default_rng(0); torch.Generator().manual_seed(0)", forbidden),
    ],
)
def test_a_rule_lets_pass(inside: str, line: str, rule: Callable[[Source], list[str]]) -> None:
    source = Source(PACKAGE / inside)
    source.__dict__["text"] = line  # fills the cached property
    assert not rule(source)


def test_files_and_functions_stay_small() -> None:
    long_files = [f"{s.name}: {count} lines" for s in EVERYTHING if (count := s.text.count("\n")) > 400]
    functions = [(s, node) for s in EVERYTHING for node in s.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = [(f"{s.name}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.body[0].lineno + 1) for s, node in functions]
    assert long_files + [f"{where}: {size} lines" for where, size in sizes if size > 60] == []


def module_graph() -> dict[str, set[str]]:
    """Which of our modules each imports, also inside functions; what types alone need (`if TYPE_CHECKING`) is no import."""
    modules = {source.inside.removesuffix(".py").removesuffix("/__init__").replace("/", "."): source for source in HOUSE}
    graph: dict[str, set[str]] = {}
    for name, source in modules.items():
        tree = ast.parse(source.text)
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                node.body = []
        wanted = {found.removeprefix("kinshot.") for node in ast.walk(tree) for found in imported(node) if found.startswith("kinshot.")}
        graph[name] = ({one if one in modules else one.rpartition(".")[0] for one in wanted} & set(modules)) - {name}
    return graph


def test_imports_make_no_circle() -> None:
    try:
        list(graphlib.TopologicalSorter(module_graph()).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_the_linter_looks_at_every_file() -> None:
    """A folder that was once excluded by its bare name took a room of that name with it."""
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run([ruff, "check", "--show-files", "."], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    looked_at = {Path(line).resolve() for line in done.stdout.splitlines()}
    assert [source.name for source in EVERYTHING if source.path.resolve() not in looked_at] == []


def test_tests_are_flat_files() -> None:
    """A package tests/ssl would stand before the standard library's ssl on the path, and break every download."""
    assert [path.as_posix() for path in (REPOSITORY / "tests").rglob("*.py") if path.parent.name != "tests"] == []


@pytest.mark.parametrize("folder", [".", "tests"])
def test_the_standard_ssl_is_found(folder: str) -> None:
    code = "import ssl, sys; ssl.SSLContext; sys.exit('kinshot' in ssl.__file__.split(chr(47))[-2])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["ssl", "fewshot", "segmentation"])
@pytest.mark.parametrize("argument", ["--help", "list"])
def test_light_commands_import_neither_torch_nor_numpy(command: str, argument: str, tmp_path: Path) -> None:
    code = f"""
import sys
from kinshot.cli.{command} import main
try:
    code = main([{argument!r}])
except SystemExit as stop:
    code = stop.code
sys.exit(f"imported: {{heavy}}" if (heavy := {{"torch", "numpy"}} & sys.modules.keys()) else code or 0)
"""
    # -P keeps the working directory off the path, and the tree under test is put on it by name
    line = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{code}"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_tests_reach_no_network() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as reached, pytest.raises(RuntimeError, match="no network"):
        reached.connect(("192.0.2.1", 80))


def pins(name: str) -> dict[str, str]:
    """Package to version in a requirements file, and the check that every line pins one."""
    text = (REPOSITORY / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [re.match(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", line) for line in lines]
    assert all(found), f"{name} holds a line that pins nothing"
    return {match[1]: match[2] for match in found if match}


def test_lock_and_constraints_agree() -> None:
    locked = pins("requirements.lock")
    assert locked == pins("constraints.txt")
    assert locked["pytorch-lightning"] not in {"2.6.2", "2.6.3"}
    assert {"torch", "torchvision", "lightly", "kornia", "timm", "pytest", "setuptools"} <= locked.keys()


def test_lock_has_a_hash_for_every_package_and_no_address() -> None:
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    entries = text.replace("\\\n", " ").splitlines()
    assert [line for line in entries if line and not line.startswith("#") and "--hash=sha256:" not in line] == []
    assert "://" not in text
    assert "index-url" not in text
