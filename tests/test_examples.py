"""The examples in docstrings run as they stand: every name that kinshot shows may have one, and most must."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kinshot
from kinshot.core.lazy import Declared, Face
from kinshot.core.registry import Registry
from tests.graph_trees import write_graph
from tests.tiny import TINY, run

WITHOUT = {"encoders", "graphs", "methods", "metrics", "sources", "views"}
"""Faces of parts that want files, or a whole run, around them: their names need no example, but one that is there runs."""


def shown() -> Iterator[tuple[str, str, str]]:
    """Dotted name, module and symbol of everything that kinshot and its faces show."""
    values = [getattr(kinshot, name) for name in kinshot.__offer__.names()]  # type: ignore[attr-defined]
    for face in [kinshot, *(value for value in values if isinstance(value, Face))]:
        offer = vars(face)["__offer__"]
        if isinstance(offer, Registry):
            yield from ((f"{face.__name__}.{entry.name}", entry.module, entry.symbol) for entry in offer.entries.values())
        elif isinstance(offer, Declared):
            yield from ((f"{face.__name__}.{name}", *place) for name, place in offer.places.items() if place[0] != face.__name__)
    for name in kinshot.kin.graph.__all__:
        yield f"kinshot.kin.graph.{name}", getattr(kinshot.kin.graph, name).__module__, name


SHOWN = {name: (module, symbol) for name, module, symbol in shown()}


def examples(name: str) -> list[doctest.DocTest]:
    """The examples of a name, those of a class's public methods among them."""
    module, symbol = SHOWN[name]
    part = getattr(importlib.import_module(module), symbol)
    given = {"kinshot": kinshot, "torch": torch, "np": np}
    parts: dict[str, Any] = {name: part}
    if inspect.isclass(part):
        parts |= {f"{name}.{key}": value for key, value in vars(part).items() if key[0] != "_" and inspect.isfunction(value)}
    parser = doctest.DocTestParser()
    found = [parser.get_doctest(inspect.getdoc(value) or "", dict(given), key, module, 0) for key, value in parts.items()]
    return [test for test in found if test.examples]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what examples load: the small run `runs/demo`, and a graph."""
    folder = tmp_path_factory.mktemp("examples")
    write_graph(folder / "acm_graph.npz")
    done = run("ssl", "pretrain", TINY, "train.epochs=1", "monitor.tensorboard=false", "--out", "runs/demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", [name for name in SHOWN if examples(name)])
def test_the_example_runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    runner, said = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE), []
    for test in examples(name):
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_what_is_used_alone_has_an_example() -> None:
    needed = [name for name in SHOWN if name.split(".")[1] not in WITHOUT and not name.startswith("kinshot.kin.graph.")]
    assert len(needed) > 40
    assert [name for name in needed if not examples(name)] == []
