"""CONTRIBUTING.md as it is written: each example is one file, which a package brings by an entry point, and its commands run.

Nothing else is edited: what is tested is that adding a part takes one file.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kinshot.cli import parts
from kinshot.core.plugins import group_of
from tests.conftest import cli_environment
from tests.tiny import TINY

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


class Example(NamedTuple):
    """One kind of part on the page."""

    name: str
    place: str
    group: str
    code: str
    commands: list[list[str]]


def _commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]


def _example(section: str) -> Example:
    place, group = re.search(r"`kinshot/(\S+)\.py`", section), re.search(r"group `(kinshot\.\w+)`", section)
    assert place, section[:60]
    assert group, section[:60]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code, section[:60]
    commands = re.search(r"^```\n(.*?)^```", section[code.end() :], re.DOTALL | re.MULTILINE)
    assert commands, section[:60]
    return Example(place[1].rpartition("/")[2], place[1], group[1], code[1], _commands(commands[1]))


SECTIONS = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
EXAMPLES = {title: _example(text) for title, text in SECTIONS.items() if "```python" in text}
every_example = pytest.mark.parametrize("example", [pytest.param(example, id=example.name) for example in EXAMPLES.values()])
Run = Callable[..., subprocess.CompletedProcess[str]]


def install(folder: Path, package: str, files: dict[str, tuple[str, str]]) -> None:
    """A package of files {name: (entry-point group, text)}, as an installer would leave it in `folder`."""
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text("")
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    points = [f"[{group}]\n{name} = {package}.{name}\n" for name, (group, _) in files.items()]
    (information / "entry_points.txt").write_text("\n".join(points))
    for name, (_, text) in files.items():
        (folder / package / f"{name}.py").write_text(text)


def runner(place: Path, installed: Path) -> Run:
    """Run a console command in a process of its own, in `place`, with the packages of `installed`."""
    environment = cli_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(installed), environment["PYTHONPATH"]])

    def run(command: str, *args: str, module: str = "") -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", module or f"kinshot.cli.{command}", *args]
        return subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, timeout=600, check=False)

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Commands where a package brings every example of the page, beside a run that they can measure."""
    place, installed = tmp_path_factory.mktemp("place"), tmp_path_factory.mktemp("installed")
    install(installed, "mypackage", {example.name: (example.group, example.code) for example in EXAMPLES.values()})
    found = runner(place, installed)
    done = found("ssl", "pretrain", str(TINY), "train.epochs=1", "monitor.tensorboard=false", "--out", "runs/demo")
    assert done.returncode == 0, done.stderr
    return found


def test_the_page_has_an_example_of_every_kind() -> None:
    kinds = {group_of(registry.kind) for registry in parts.REGISTRIES if registry.kind != "kind of samples"}
    assert {example.group for example in EXAMPLES.values()} == kinds


@every_example
def test_the_place_that_the_page_names_is_where_such_parts_are(example: Example) -> None:
    registry = next(r for r in parts.REGISTRIES if group_of(r.kind) == example.group)
    assert example.place.rpartition("/")[0].replace("/", ".") in [package.removeprefix("kinshot.") for package in registry.packages]
    assert not (REPOSITORY / "kinshot" / f"{example.place}.py").exists()


@every_example
def test_its_tests_are_where_the_page_says(example: Example) -> None:
    section = next(text for title, text in SECTIONS.items() if EXAMPLES.get(title) is example)
    for test in re.findall(r"tests/\w+\.py", section):
        assert (REPOSITORY / test).is_file(), test


def test_list_and_show_know_each_of_them(run: Run) -> None:
    done = run("ssl", "list", "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)["parts"]
    for example in EXAMPLES.values():
        kind = next(r.kind for r in parts.REGISTRIES if group_of(r.kind) == example.group)
        assert listed[kind][example.name].endswith("."), example.name


@every_example
def test_the_commands_of_the_page_use_it(example: Example, run: Run) -> None:
    for command, *args in example.commands:
        quick = ["--episodes=20"] if args[0] == "eval" else []
        done = run(command, *args, *quick)
        assert done.returncode == 0, done.stderr
        assert example.name in done.stdout


def test_a_run_of_nothing_but_new_parts(run: Run) -> None:
    commands = re.search(r"^```\n(.*?)^```", SECTIONS["All together"], re.DOTALL | re.MULTILINE)
    assert commands
    for command, *args in _commands(commands[1]):
        done = run(command, *args, *(["--episodes=20"] if args[0] == "eval" else []))
        assert done.returncode == 0, done.stderr
    assert "minkowski" in done.stdout


def test_the_examples_pass_the_contract_tests(run: Run) -> None:
    """Those that are generated from the registries meet the parts of an installed package, too."""
    files = sorted({str(REPOSITORY / test) for text in SECTIONS.values() for test in re.findall(r"tests/test_\w+\.py", text)})
    chosen = " or ".join(example.name for example in EXAMPLES.values())
    done = run("", "-q", "-p", "no:cacheprovider", "--rootdir", str(REPOSITORY), "-k", chosen, *files, module="pytest")
    assert done.returncode == 0, done.stdout[-5000:]
    assert "passed" in done.stdout


@pytest.mark.parametrize(
    ("text", "group", "words"),
    [
        ("def f(:\n", "kinshot.head", "invalid syntax"),
        ("x = 1\n", "kinshot.head", "registers no head"),
        ("", "kinshot.haed", "unknown entry-point group 'kinshot.haed': did you mean 'kinshot.head'"),
    ],
)
def test_a_broken_plugin_is_named_with_its_package(text: str, group: str, words: str, tmp_path: Path) -> None:
    install(tmp_path / "installed", "guest", {"broken": (group, text)})
    done = runner(tmp_path, tmp_path / "installed")("ssl", "list")
    assert done.returncode == 2
    assert "plug-in 'broken' of package guest" in done.stderr
    assert words in done.stderr


def test_a_plugin_that_fails_when_it_is_used_is_named_with_its_file(tmp_path: Path) -> None:
    install(tmp_path / "installed", "guest", {"late": ("kinshot.encoder", f"{EXAMPLES['An encoder'].code}\nimport no_such_library\n")})
    done = runner(tmp_path, tmp_path / "installed")("ssl", "pretrain", str(TINY), "encoder=two_layers", "--dry-run")
    assert done.returncode == 2
    assert f"plug-in 'late' of package guest, {tmp_path / 'installed' / 'guest' / 'late.py'}: ModuleNotFoundError" in done.stderr
