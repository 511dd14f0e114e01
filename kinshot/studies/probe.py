"""`ssl probe`: what frozen embeddings know of each label, by leave-one-out kNN, over any number of runs.

Runs that differ by seed alone are averaged; a setting named by `compare` gives differences paired by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.config import flatten
from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.progress import Work
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.means import mean_of
from kinshot.core.statistics.pairing import paired_by
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.kin.graph import local_consistency
from kinshot.kin.measuring import measured as measured_by
from kinshot.kin.metric_names import Wanted
from kinshot.kin.neighbors.found import ByLabel
from kinshot.learn.knn import leave_one_out
from kinshot.learn.model import Model
from kinshot.recipes.recipe import Choice, Recipe
from kinshot.runs.diagnose import labels_of
from kinshot.runs.reached import reached_text
from kinshot.studies.answers import build_source, features_of
from kinshot.studies.intervals import SEEDS_ALONE
from kinshot.studies.lineage import Lineage
from kinshot.studies.provenance import commands_behind, versions
from kinshot.studies.results import SEEN
from kinshot.studies.seen import seen_fields
from kinshot.studies.study import Trained, load_runs, seeds_of
from kinshot.studies.summaries import by_size

Say = Callable[[str], None]
LEAVE_ONE_OUT = ("accuracy", "auroc")
STEP, CONTENT = "step", "training data"
_IGNORED = {"name", "description", "seed", "data.root"}


@dataclass(frozen=True)
class Probe:
    """What to measure.

    Args:
        labels: names of labels; empty for all that the data has.
        feature: backbone, projector or joint.
        k: neighbors that vote.
        compare: a setting of two values whose effect is to be measured, for example structure.weight; empty for none.
        data: what to embed; none takes each run's own training data.
        metrics: metrics of retrieval beside accuracy and AUROC, by cosine, of samples whose label others have too.
    """

    labels: tuple[str, ...] = ()
    feature: str = "backbone"
    k: int = 3
    compare: str = ""
    data: Choice | None = None
    metrics: tuple[Wanted, ...] = ()


@dataclass(frozen=True)
class Measured:
    """One run's figures in percent: its settings, (label, metric) -> value, and label -> local consistency on the run's graph."""

    seed: int
    settings: dict[str, Any]
    values: dict[tuple[str, str], float]
    predicted: dict[str, float] = field(default_factory=dict)


def probe(paths: list[Path], wanted: Probe, device: str, say: Say) -> dict[str, Any]:
    """Measure every run; returns the result that `ssl probe --json` prints, with rows as in `docs/results`.

    Raises CheckpointError for a bad checkpoint, DataError for data without labels, ConfigError for a setting that does not vary.
    """
    where, runs = resolve_device(device), load_runs(paths, say=say)
    measured, met = [], []
    sources: dict[Hashable, Source] = {}
    work = Work(len(runs), say, "probing")
    for run in runs:
        choice = wanted.data or run.recipe.data
        key = repr(choice), run.input.meets
        if key not in sources:
            sources[key] = build_source(choice, run.input)
        met.append(sources[key])
        values, predicted = _values(run.model, met[-1], wanted, where), _prediction(run.recipe, met[-1], wanted)
        measured.append(Measured(run.recipe.seed, _settings(run), values, predicted))
        say(f"measured {run.path}")
        work.step()
    checkpoints = [run.checkpoint for run in runs]
    lineage = Lineage((run.path, run) for run in runs)
    minutes = sum(float(checkpoint.state.get("cpu_seconds", 0.0)) for checkpoint in checkpoints) / 60
    seen, said = seen_fields(runs, {"": met}, lineage)
    return {
        "runs": [str(run.path) for run in runs],
        "pretrained_by": commands_behind(((run.path, run) for run in runs), lineage),
        "seeds": seeds_of(runs),
        "data": {
            "name": wanted.data.name if wanted.data else ", ".join(sorted({run.recipe.data.name for run in runs})),
            "feature": wanted.feature,
        },
        "protocol": {
            "k": wanted.k,
            "votes": "1 / distance",
            "leave one out": "yes",
            **(_retrieval_said(met, wanted) if wanted.metrics else {}),
            "interval": SEEDS_ALONE,
            "training": reached_text(checkpoints),
            **said,
        },
        SEEN: seen,
        "cpu_minutes": round(minutes, 2),
        "versions": versions(checkpoints, where),
        "rows": [asdict(row) for row in summarize(measured, wanted.compare)],
    }


def _named(wanted: Probe, runs: Sequence[Trained]) -> str:
    return wanted.data.name if wanted.data else ", ".join(sorted({run.recipe.data.name for run in runs}))


@dataclass(frozen=True)
class Summary:
    """One row of the table."""

    label: str
    metric: str
    mean: float
    ci95: float
    n: int


def summarize(measured: list[Measured], compare: str = "") -> list[Summary]:
    """Means over seeds, differences paired by seed, and the local consistency that the graph predicted, in percent."""
    keys = _varying(measured)
    if compare and compare not in keys:
        raise ConfigError(f"--compare {compare}: does not differ between these runs; {suggest(compare, keys)}")
    groups = _groups(measured, keys)
    for label, group in groups.items():
        seeds = [m.seed for m in group]
        if len(set(seeds)) < len(seeds):
            raise ConfigError(f"several runs have the same settings ({label or 'all'}) and seed, so they cannot be averaged: leave one out")
    rows = [row for label, group in groups.items() for row in _means(label, group)]
    if compare:
        rest = [key for key in keys if key != compare]
        for label, group in _groups(measured, rest).items():
            rows += _differences(label, group, compare)
    for label, group in _groups(measured, [key for key in keys if not key.startswith("structure.")]).items():
        rows += _predictions(label, [m.predicted for m in group])
    return rows


def _means(label: str, group: list[Measured]) -> list[Summary]:
    return [_summary(label, name, [m.values[name] for m in group]) for name in group[0].values]


def _differences(label: str, group: list[Measured], compare: str) -> list[Summary]:
    values = sorted({m.settings.get(compare) for m in group}, key=by_size)
    if len(values) != 2:
        raise ConfigError(f"--compare {compare}: expected two values, got {', '.join(map(str, values))}")
    before, after = ({m.seed: m for m in group if m.settings.get(compare) == value} for value in values)
    pairs = paired_by(after, before).values()
    if not pairs:
        raise ConfigError(f"--compare {compare}: no seed was run with both {values[0]} and {values[1]}")
    title = ", ".join(part for part in (label, f"{compare} {values[0]} to {values[1]}, paired") if part)
    return [_summary(title, name, [new.values[name] - old.values[name] for new, old in pairs]) for name in group[0].values]


def _predictions(label: str, found: list[dict[str, float]]) -> list[Summary]:
    found = [one for number, one in enumerate(found) if one not in found[:number]]  # runs of one graph are told the same
    names = found[0] if found else {}
    title = ", ".join(part for part in (label, "predicted by the graph") if part)
    return [_summary(title, (name, "local consistency"), [f[name] for f in found]) for name in names]


def _summary(label: str, name: tuple[str, str], values: list[float]) -> Summary:
    found = mean_of(values)
    return Summary(label or "all runs", f"{name[1]} of {name[0]}, %", round(found.mean, 3), round(found.half_width, 3), len(values))


def _values(model: Model, source: Source, wanted: Probe, device: torch.device) -> dict[tuple[str, str], float]:
    features = features_of(model, source, device)[wanted.feature].numpy()
    found = {}
    for name, labels in _labels(source, wanted).items():
        for metric, value in zip(LEAVE_ONE_OUT, leave_one_out(features, labels, k=wanted.k), strict=True):
            found[name, metric] = 100 * value
        found |= {(name, text): 100 * value for text, value in _retrieval(features, labels, wanted).items()}
    return found


def _retrieval(features: np.ndarray, labels: np.ndarray, wanted: Probe) -> dict[str, float]:
    known = labels >= 0
    figures = measured_by(torch.from_numpy(features[known]), ByLabel(labels[known]), wanted.metrics) if wanted.metrics else {}
    return {text: figure.value for text, figure in figures.items()}


def _retrieval_said(sources: Sequence[Source], wanted: Probe) -> dict[str, Any]:
    """By what metrics of retrieval rank, and how many samples share each label with no other, the most of all sources."""
    alone: dict[str, int] = {}
    for source in {id(source): source for source in sources}.values():
        for name, labels in _labels(source, wanted).items():
            sizes = np.unique(labels[labels >= 0], return_counts=True)[1]
            alone[name] = max(alone.get(name, 0), int((sizes == 1).sum()))
    return {"neighbours of metrics": "by cosine", "samples alone with their label, left out of metrics": alone}


def _labels(source: Source, wanted: Probe) -> dict[str, np.ndarray]:
    every = labels_of(source)
    if not every:
        raise DataError(f"{source.name} has no labels to probe: give --data with labels")
    for name in wanted.labels:
        if name not in every:
            raise ConfigError(f"--labels: {source.name} has no label {name!r}: {suggest(name, every)}")
    return {name: every[name] for name in (wanted.labels or every)}


def _prediction(recipe: Recipe, source: Source, wanted: Probe) -> dict[str, float]:
    if recipe.graph is None:
        return {}
    try:
        graph = GRAPHS.build(recipe.graph.name, source, settings=recipe.graph.settings)
    except (ConfigError, DataError):
        return {}  # the recipe's graph says nothing of other data, a file of edges for example
    return {name: 100 * local_consistency(graph, labels) for name, labels in _labels(source, wanted).items()}


def _settings(run: Trained) -> dict[str, Any]:
    """What must agree of runs that are averaged: the recipe's settings, what it was trained on, and how far where nothing chose that."""
    found = {key: value for key, value in flatten(run.recipe.to_dict()).items() if key not in _IGNORED}
    step = {} if run.recipe.validation.split else {STEP: run.checkpoint.state.get("step")}
    elsewhere = {"backbone": str(run.path)} if run.checkpoint.origin else {}
    return {**found, **elsewhere, **step, CONTENT: str(run.checkpoint.state.get("source", ""))[:12]}


def _varying(measured: list[Measured]) -> list[str]:
    """Settings in which runs differ, but for those that follow the seed."""
    keys = list(dict.fromkeys(key for m in measured for key in m.settings))
    tied = {key for key in keys if all(m.settings.get(key) == m.seed for m in measured)}
    if any(key.startswith("data.") for key in tied):
        tied.add(CONTENT)  # every seed has data of its own
    return [key for key in keys if key not in tied and len({str(m.settings.get(key)) for m in measured}) > 1]


def _groups(measured: list[Measured], keys: list[str]) -> dict[str, list[Measured]]:
    groups: dict[str, list[Measured]] = {}
    for m in sorted(measured, key=lambda m: [by_size(m.settings.get(key)) for key in keys]):
        groups.setdefault(", ".join(f"{key} {m.settings.get(key)}" for key in keys), []).append(m)
    return groups
