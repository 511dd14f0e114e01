"""`fewshot crossdomain`: trained on one source, evaluated on others; a matrix from cached features.

Every source is rendered at each checkpoint's own input size; all checkpoints meet the same episodes of a source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.runtime import resolve_device
from kinshot.datasets.base import Source
from kinshot.encoders.base import Spec
from kinshot.fewshot.cross_domain import cross_domain
from kinshot.fewshot.evaluate import takes
from kinshot.fewshot.statistics import RULE
from kinshot.recipes.answers import Protocol, build_source, measure
from kinshot.recipes.embedder import Embedder, untrained
from kinshot.recipes.recipe import Choice, Recipe
from kinshot.recipes.study import Row, Say, Trained, build_key, check_run_features, load_runs, make_row, study_result
from kinshot.recipes.summaries import REFERENCES, Measured
from kinshot.recipes.tasks import make_tasks

_Cells = dict[tuple[str, str], dict[tuple[str, str], list[np.ndarray]]]
"""(feature and head, task) -> (trained on, evaluated on) -> accuracy in every episode, of each checkpoint."""


@dataclass(frozen=True)
class Domains:
    """What to measure: the sources, and everything else as in `fewshot eval`, whose `data` is not read."""

    data: list[Choice]
    protocol: Protocol


def crossdomain(paths: list[Path], wanted: Domains, device: str, say: Say) -> dict[str, Any]:
    """The matrix of runs and sources; returns the result that `fewshot crossdomain --json` prints.

    Runs that differ by their seed alone make one row: the mean over them. A single run's intervals are over episodes.

    Raises CheckpointError for a bad checkpoint, DataError for data that cannot give the episodes, ConfigError for settings.
    """
    networks = any(takes(name, "network") for _, name, _ in wanted.protocol.heads)
    where, runs = resolve_device(device), load_runs(paths, ("encoder", "projector", *["training"] * networks))
    check_run_features(wanted.protocol.features, runs)
    names = row_names(runs)
    sources = _Sources(wanted)
    cells: _Cells = {}
    for run in runs:
        for column in range(len(wanted.data)):
            for found in _measured(run, names[run.label], run.model, sources, column, wanted, where, say):
                _put(cells, found, sources.names[column])
    if wanted.protocol.reference:
        for name, model in zip(REFERENCES, (untrained(runs[0].checkpoint), None), strict=True):
            for column in range(len(wanted.data)):
                for found in _measured(runs[0], name, model, sources, column, wanted, where, say):
                    _put(cells, found, sources.names[column])
    drawing = wanted.protocol.drawing
    protocol = {
        "queries": f"{drawing.queries} per class",
        "episodes": drawing.episodes,
        "seed": drawing.seed,
        "interval": RULE,
        "episode hashes": ", ".join(f"{name} {digest}" for name, digest in sources.hashes.items()),
    }
    data = {"name": ", ".join(sources.names), "trained on": ", ".join(dict.fromkeys(names.values()))}
    met = {name: sources.build(column, runs[0].input) for column, name in enumerate(sources.names)}
    return study_result(runs, data, protocol, _rows(cells), where, met)


def row_names(runs: list[Trained]) -> dict[str, str]:
    """The row of every run: its training source, numbered where runs of one source differ by more than their seed."""
    kinds = {run.label: _kind(run.recipe) for run in runs}
    of_source: dict[str, list[str]] = {}
    for run in runs:
        known = of_source.setdefault(_domain(run.recipe), [])
        if kinds[run.label] not in known:
            known.append(kinds[run.label])
    found = {}
    for run in runs:
        name = _domain(run.recipe)
        known = of_source[name]
        found[run.label] = name if len(known) == 1 else f"{name} ({run.path})"
    return found


def _domain(recipe: Recipe) -> str:
    split = recipe.data.settings.get("split")
    return f"{recipe.data.name}/{split}" if split else recipe.data.name


def _kind(recipe: Recipe) -> str:
    plain = replace(recipe, name="", description="", seed=0).to_dict()
    plain["data"].pop("root", None)
    return json.dumps(plain, sort_keys=True, default=str)


class _Sources:
    """The sources, rendered for one kind of input at a time; their names, and the hashes of their episodes."""

    def __init__(self, wanted: Domains) -> None:
        if not wanted.data:
            raise ConfigError("--data: name at least one source to evaluate on")
        self.choices = wanted.data
        self.names: list[str] = [""] * len(wanted.data)
        self.hashes: dict[str, str] = {}
        self._built: dict[tuple[int, Any], Source] = {}

    def build(self, column: int, input: Spec) -> Source:
        """A column's source for an input. Raises DataError where it has no labels, or cannot be embedded."""
        key = (column, build_key(input))
        if key not in self._built:
            source = build_source(self.choices[column], input)
            if source.labels is None:
                raise DataError(f"{source.name} has no labels, and episodes need classes: give --data with one folder per class")
            self._built[key] = source
            self.names[column] = self._name(column, source)
        return self._built[key]

    def _name(self, column: int, source: Source) -> str:
        taken = [name for other, name in enumerate(self.names) if other != column]
        return source.name if source.name not in taken else f"{source.name} ({column + 1})"


def _measured(
    run: Trained, name: str, model: Embedder | None, sources: _Sources, column: int, wanted: Domains, device: Any, say: Say
) -> list[Measured]:
    source = sources.build(column, run.input)
    tasks = make_tasks(source, wanted.protocol.drawing)
    sources.hashes[sources.names[column]] = " ".join(episodes.hash()[:12] for episodes in tasks.values())

    def said(text: str) -> None:
        say(f"{text}, on {sources.names[column]}")

    return measure(name, model, run.checkpoint, source, tasks, wanted.protocol, device, said)


def _put(cells: _Cells, found: Measured, evaluated: str) -> None:
    kind = (f"{found.feature}, {found.head}", f"{found.ways}-way {found.shots}-shot, %")
    cells.setdefault(kind, {}).setdefault((found.model, evaluated), []).append(found.accuracy)


def _rows(cells: _Cells) -> list[Row]:
    rows = []
    for (what, task), results in cells.items():
        matrix = cross_domain(results)
        for trained, line in zip(matrix.trained, matrix.cells, strict=True):
            for evaluated, found in zip(matrix.evaluated, line, strict=True):
                if found is not None:
                    values = found[0] if len(found) == 1 else np.array([accuracy.mean() for accuracy in found])
                    rows.append(make_row(f"{trained}, {what}", task, evaluated, values))
    return rows
