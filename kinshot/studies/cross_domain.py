"""`fewshot crossdomain`: trained on one source, evaluated on others; a matrix from cached features.

Every source is rendered at each checkpoint's own input size; all checkpoints meet the same episodes of a source.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.means import RULE
from kinshot.fewshot.cross_domain import cross_domain
from kinshot.learn.model import Model
from kinshot.recipes.recipe import Choice, Recipe
from kinshot.studies.answers import Protocol, measure
from kinshot.studies.fields import Fields
from kinshot.studies.references import references
from kinshot.studies.seed_groups import seed_groups
from kinshot.studies.study import Row, Say, Trained, check_run_features, load_runs, make_row, study_result
from kinshot.studies.summaries import Measured
from kinshot.studies.tasks import queries_of

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
    where, runs = resolve_device(device), load_runs(paths, say=say)
    check_run_features(wanted.protocol.features, runs)
    names = row_names(runs)
    columns = _columns(wanted, runs)
    cells: _Cells = {}
    models: list[tuple[str, Model | None, Trained]] = [(names[run.label], run.model, run) for run in runs]
    if wanted.protocol.reference:
        models += [(reference.label, reference.model, reference.run) for reference in references(runs, say)]
    for name, model, run in models:
        for column in columns:
            for found in _measured(run, name, model, column, wanted, where, say):
                _put(cells, found, column.name)
    drawing = wanted.protocol.drawing
    protocol = {
        "queries": _queries_text(columns),
        "episodes": drawing.episodes,
        "seed": drawing.seed,
        "interval": RULE,
        "episode hashes": ", ".join(
            f"{column.name} {' '.join(episodes.hash()[:12] for episodes in column.fields.tasks.values())}" for column in columns
        ),
    }
    data = {"name": ", ".join(column.name for column in columns), "trained on": ", ".join(dict.fromkeys(names.values()))}
    met = {column.name: [column.fields.of(run.input).source for run in runs] for column in columns}
    return study_result(runs, data, protocol, _rows(cells), where, met)


def row_names(runs: list[Trained]) -> dict[str, str]:
    """The row of every run: its training source, numbered where runs of one source differ by more than their seed."""
    groups = seed_groups(runs, apart=True)
    domains = [_domain(group.runs[0].recipe) for group in groups]
    return {
        run.label: domain if domains.count(domain) == 1 else f"{domain} ({group.label})"
        for domain, group in zip(domains, groups, strict=True)
        for run in group.runs
    }


def _domain(recipe: Recipe) -> str:
    split = recipe.data.settings.get("split")
    return f"{recipe.data.name}/{split}" if split else recipe.data.name


@dataclass(frozen=True)
class _Column:
    """A source that is evaluated on: its name, and what every kind of input meets of it."""

    name: str
    fields: Fields


def _columns(wanted: Domains, runs: list[Trained]) -> list[_Column]:
    if not wanted.data:
        raise ConfigError("--data: name at least one source to evaluate on")
    found: list[_Column] = []
    for choice in wanted.data:
        fields = Fields(choice, [run.input for run in runs], wanted.protocol.drawing)
        name = fields.describe()["name"]
        found.append(_Column(f"{name} ({len(found) + 1})" if name in [column.name for column in found] else name, fields))
    return found


def _queries_text(columns: list[_Column]) -> str:
    """How many queries of each class there were: one number, or one for each source."""
    found = {column.name: queries_of(column.fields.tasks) for column in columns}
    numbers = set(found.values())
    if len(numbers) == 1:
        return f"{numbers.pop()} per class"
    return ", ".join(f"{count} per class of {name}" for name, count in found.items())


def _measured(
    run: Trained, name: str, model: Model | None, column: _Column, wanted: Domains, device: torch.device, say: Say
) -> list[Measured]:
    met = column.fields.of(run.input)
    return measure(name, model, run, met.source, met.tasks, wanted.protocol, device, lambda text: say(f"{text}, on {column.name}"))


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
                    rows.append(make_row(f"{trained}, {what}", task, evaluated, found[0] if len(found) == 1 else np.stack(found)))
    return rows
