"""What the studies of trained checkpoints share: the runs, the sources named for them, rows with intervals, and the result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.statistics.means import mean_of
from kinshot.datasets.base import Source
from kinshot.fewshot.draws import pool_of
from kinshot.learn.features import weights_hash
from kinshot.learn.model import BACKBONE, EXPORTED, Model
from kinshot.recipes.loaded import Loaded, read
from kinshot.recipes.recipe import Choice
from kinshot.recipes.specs import FEATURES, check_features
from kinshot.runs.embedder import from_checkpoint, input_spec
from kinshot.runs.reached import reached_text
from kinshot.runs.sweep_folder import runs_of
from kinshot.samples.spec import Spec
from kinshot.studies.answers import build_source
from kinshot.studies.intervals import OVER_EPISODES, accuracies, roughness, several_rule
from kinshot.studies.lineage import Lineage
from kinshot.studies.provenance import commands_behind, versions
from kinshot.studies.results import COVERS, ROUGH, SEEN
from kinshot.studies.seen import seen_fields

Say = Callable[[str], None]
Row = dict[str, Any]
"""`{label, metric, mean, ci95, n}` as in result files, and `block` and `column`, of which the metric is made, for tables."""
_VALUES = "values"
"""Where a row keeps the figures that its mean is over, until it is written."""


@dataclass(frozen=True)
class Trained(Loaded):
    """A checkpoint under study.

    Args:
        checkpoint: what was read.
        recipe: what trained it.
        label: what rows call it: its path where there are several, else "pretrained".
        path: as it was given.
        model: encoder and projector, in evaluation mode.
    """

    label: str
    path: Path
    model: Model

    @property
    def input(self) -> Spec:
        """The samples that the encoder expects."""
        return input_spec(self.checkpoint)


def load_runs(paths: Sequence[Path], parts: tuple[str, ...] = EXPORTED, *, say: Say | None = None) -> list[Trained]:
    """The checkpoints of runs, a sweep's folder standing for its runs, and backbones that were trained elsewhere, by their names.

    With `say`, one given twice counts once, and that is said, as is what there is to know of backbones.

    Raises CheckpointError for a bad one.
    """
    runs = []
    for path in runs_of(list(paths)):
        run = read(path, parts)
        runs.append(Trained(run.checkpoint, run.recipe, str(path), path, from_checkpoint(run)))
    if say is not None:
        runs = _distinct(runs, say)
        for note in dict.fromkeys(note for run in runs for note in run.checkpoint.notes):
            say(note)
    if len(runs) == 1 and not runs[0].checkpoint.origin:  # the name of a backbone says what it is, and one may be untrained
        return [replace(run, label="pretrained") for run in runs]
    return runs


def _distinct(runs: Sequence[Trained], say: Say) -> list[Trained]:
    """The runs without those that have the weights and the recipe of an earlier one, by whatever path; says which count once."""
    first: dict[str, Trained] = {}
    for run in runs:
        parts = (weights_hash(run.checkpoint.encoder), weights_hash(run.checkpoint.projector))
        other = first.setdefault(json.dumps([*parts, run.recipe.to_dict()], sort_keys=True, default=str), run)
        if other is not run:
            say(f"{run.path} is the same checkpoint as {other.path}: counted once")
    return list(first.values())


def check_run_features(names: list[str], runs: Sequence[Trained]) -> None:
    """Raise ConfigError for a feature that a run does not give."""
    for run in runs:
        if run.checkpoint.origin and (asked := [name for name in names if name != BACKBONE]):
            raise ConfigError(f"--features: {run.path} was not trained here and has no {asked[0]}, only its backbone: ask for backbone")
        check_features(names, run.recipe.features)


def shared_features(runs: Sequence[Trained]) -> list[str]:
    """What every run gives of backbone, projector and joint."""
    return [BACKBONE] if any(run.checkpoint.origin for run in runs) else list(FEATURES)


def seeds_of(runs: Sequence[Trained]) -> list[int]:
    """The seeds of training, without those of backbones that were not trained here."""
    return sorted({run.recipe.seed for run in runs if not run.checkpoint.origin})


def same_data(runs: Sequence[Trained]) -> None:
    """Raise ConfigError where runs were trained on other data than the first, or made for samples of another kind or size."""
    for run in runs[1:]:
        if _data(run) != _data(runs[0]):
            raise ConfigError(f"{run.path} was trained on {_data(run)}, {runs[0].path} on {_data(runs[0])}: study them one at a time")
        if run.input.meets != runs[0].input.meets:
            raise ConfigError(f"{run.path} and {runs[0].path} were made for different samples: study them one at a time")


def _data(run: Trained) -> str:
    own = run.recipe.data
    return " ".join([own.name, *(f"{key}={value}" for key, value in own.settings.items() if key != "root")])


def labelled(choice: Choice, input: Spec, option: str) -> tuple[Source, np.ndarray]:
    """A source and its labels. Raises DataError, naming the option that would give others, where it has none."""
    source = build_source(choice, input)
    if source.labels is None:
        raise DataError(f"{source.name} has no labels, and classes are needed: give {option} with one folder per class")
    return source, np.asarray(source.labels)


def feasible(shots: Sequence[int], labels: np.ndarray, name: str, say: Say, *, beside: int = 1) -> list[int]:
    """The numbers of shots for which every class has that many images and `beside` more; says which are left out.

    Raises DataError where none is left.
    """
    smallest = int(pool_of(labels).counts.min())
    kept = [count for count in shots if count + beside <= smallest]
    if not kept:
        raise DataError(
            f"{name}: its smallest class has {smallest} images, {min(shots)} shots and {beside} test image need {min(shots) + beside}: "
            "lower --shots, or use other data"
        )
    if len(kept) < len(shots):
        left = ", ".join(str(count) for count in shots if count not in kept)
        say(f"{name}: its smallest class has {smallest} images, which leaves no test image at {left} shots: left out")
    return kept


def make_row(label: str, block: str, column: str, values: Sequence[float] | np.ndarray) -> Row:
    """Mean and 95 % half-width (0 for a single value) of one figure per draw (E,), or of several checkpoints' on the same draws (C, E)."""
    found = np.asarray(values, dtype=np.float64)
    over = mean_of(found)
    row = {"label": label, "metric": f"{block}: {column}", "mean": over.mean, "ci95": over.half_width, "n": len(found)}
    return {**row, "block": block, "column": column, _VALUES: found}


def over_runs(found: dict[str, list[Row]], groups: Mapping[str, Sequence[str]], *, always: bool = False) -> list[Row]:
    """Rows of every run under its name; runs that differ by their seed alone also give the mean of each row over them, first.

    Args:
        found: rows of each run, by the run's name, whose labels say what was measured but not on which run.
        groups: names of the runs that a mean is over, by the mean's name; a group of one run has no mean.
        always: put the run's name before the label of a single run, too.
    """
    part_of = {name: mean for mean, names in groups.items() if len(names) > 1 for name in names}
    named = [
        {**row, "label": f"{name}, {row['label']}", **({"part_of": part_of[name]} if name in part_of else {})}
        for name, rows in found.items()
        for row in rows
    ]
    if len(found) == 1:
        return named if always else next(iter(found.values()))
    means: list[Row] = []
    for mean, names in groups.items():
        alike: dict[tuple[str, str, str], list[np.ndarray]] = {}
        for row in (row for name in names if len(names) > 1 for row in found[name]):
            alike.setdefault((row["label"], row["block"], row["column"]), []).append(row[_VALUES])
        means += [make_row(f"{mean}, {label}", block, column, np.stack(of)) for (label, block, column), of in alike.items()]
    return means + named


def study_result(
    runs: Sequence[Trained],
    data: dict[str, Any],
    protocol: dict[str, Any],
    rows: list[Row],
    device: torch.device,
    evaluations: Mapping[str, Sequence[Source]],
) -> dict[str, Any]:
    """What a study prints with --json, and what `results.write_document` takes beside the rows.

    Args:
        runs: what was studied.
        data: what is said of the data.
        protocol: what is said of how it was measured; what training had reached and seen is added.
        rows: the figures.
        device: where features were computed.
        evaluations: the labelled images that were recognised, as each run met them, by their role, "" where there is only one.
    """
    lineage = Lineage((run.path, run) for run in runs)
    seen, said = seen_fields(runs, evaluations, lineage)
    rule = protocol.get("interval", "")
    drawn = rule.partition("over ")[2]
    rough = protocol.get(ROUGH) or roughness(accuracies(rows), [int(protocol["episodes"])] if drawn == OVER_EPISODES else [])
    training = [round(float(run.checkpoint.state.get("cpu_seconds", 0.0)) / 60, 2) for run in runs]
    return {
        "checkpoints": [str(run.checkpoint.path) for run in runs],
        "weights": [weights_hash(run.checkpoint.encoder) for run in runs],
        "pretrained_by": commands_behind(((run.path, run) for run in runs), lineage),
        "seeds": seeds_of(runs),
        "data": data,
        "protocol": {
            **protocol,
            "interval": rule if len(runs) == 1 else f"{rule}{several_rule(rule, drawn)}",
            COVERS: f"other {drawn} of these classes, not other classes",
            **({ROUGH: rough} if rough else {}),
            "training": reached_text([run.checkpoint for run in runs]),
            **said,
        },
        SEEN: seen,
        "rows": [{key: value for key, value in row.items() if key != _VALUES} for row in rows],
        "cpu_minutes": {"training of each": training, "evaluation of all": round(time.process_time() / 60, 2)},
        "versions": versions([run.checkpoint for run in runs], device),
    }


def written_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows as result files hold them."""

    def rounded(row: Row) -> Row:
        digits = 3 if "%" in row["metric"] else 6
        kept = {name: row[name] for name in ("label", "metric", "mean", "ci95", "n", "part_of") if name in row}
        return {name: round(value, digits) if name in ("mean", "ci95") else value for name, value in kept.items()}

    return [rounded(row) for row in rows]
