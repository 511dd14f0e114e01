"""`ssl probe --protocol`: frozen features of any number of runs by the field's protocols, beside what any training must beat.

The protocol, down to what was chosen on validation samples, is part of the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.progress import Work
from kinshot.core.runtime import resolve_device
from kinshot.core.statistics.means import mean_of
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.recipes.recipe import Choice
from kinshot.recipes.splits import measured_data, own_split
from kinshot.runs.reached import reached_text
from kinshot.studies.answers import features_of
from kinshot.studies.fields import distinct_inputs
from kinshot.studies.frozen import geometry, knn, linear, low_shot
from kinshot.studies.frozen.outcome import Outcome
from kinshot.studies.frozen.parts import Embedded, Parts, Side, parts_of
from kinshot.studies.frozen.settings import Settings
from kinshot.studies.intervals import SEEDS_ALONE
from kinshot.studies.lineage import Lineage
from kinshot.studies.provenance import commands_behind, versions
from kinshot.studies.references import references
from kinshot.studies.results import SEEN
from kinshot.studies.seed_groups import named_groups
from kinshot.studies.seen import seen_fields
from kinshot.studies.study import Trained, check_run_features, feasible, load_runs, same_data, seeds_of

Say = Callable[[str], None]
PROTOCOLS: dict[str, ModuleType] = {"knn": knn, "linear": linear, "low_shot": low_shot, "geometry": geometry}
"""Each gives `measured(Embedded, Settings) -> Outcome`, and `said(Settings)`, what a result says of it."""


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Args:
        protocols: some of PROTOCOLS.
        settings: theirs.
        feature: backbone, projector, joint, or an output of the projector.
        data: the queries; None is split test of the runs' own data.
        bank: what is learned from; None is split train of the queries' data, or a share of it.
        bank_share: share of each class of the queries' data that is the bank, 0 for a bank of its own.
        reference: measure the raw samples and the untrained encoder too.
    """

    protocols: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    feature: str = "backbone"
    data: Choice | None = None
    bank: Choice | None = None
    bank_share: float = 0.0
    reference: bool = True


@dataclass(frozen=True)
class _Found:
    """Everything that was measured of one encoder, and what was chosen by protocol."""

    figures: dict[str, np.ndarray]
    chosen: dict[str, Mapping[str, str]]


def evaluate_frozen(paths: list[Path], wanted: Wanted, device: str, say: Say) -> dict[str, Any]:
    """Measure runs; returns the result that `ssl probe --protocol ... --json` prints.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for data and settings that do not fit.
    """
    where, runs = resolve_device(device), [replace(run, label=str(run.path)) for run in load_runs(paths, say=say)]
    check_run_features([wanted.feature], runs)
    if wanted.data is None:
        same_data(runs)
    queries = wanted.data or measured_data(runs[0].recipe.data)
    bank = None if wanted.bank_share else wanted.bank or _training(queries, runs[0].recipe.data)
    inputs = distinct_inputs([run.input for run in runs])
    parts = {key: parts_of(bank, queries, wanted.bank_share, wanted.settings.seed, spec) for key, spec in inputs.items()}
    first = parts[min(parts)]
    for why, count in first.left_out.items():
        say(f"{why}: {count}")
    wanted = _feasible(wanted, first, say)
    known = references(runs) if wanted.reference else []
    work = Work(len(wanted.protocols) * (len(runs) + len(known)), say, "probing")
    found = {run.label: _measured(run.label, run.model, parts[run.input.meets], wanted, where, say, work) for run in runs}
    others = {one.label: _measured(one.label, one.model, parts[one.run.input.meets], wanted, where, say, work) for one in known}
    lineage = Lineage((run.path, run) for run in runs)
    seen, told = seen_fields(runs, {"queries": [parts[run.input.meets].queries.source for run in runs]}, lineage)
    return {
        "runs": [str(run.path) for run in runs],
        "weights": [weights_hash(run.checkpoint.encoder) for run in runs],
        "pretrained_by": commands_behind(((run.path, run) for run in runs), lineage),
        "seeds": seeds_of(runs),
        "data": {"name": queries.name, "feature": wanted.feature, **first.described(wanted.bank_share, wanted.settings.seed)},
        "protocol": {
            **{name: {**PROTOCOLS[name].said(wanted.settings), **_chosen(name, {**found, **others})} for name in wanted.protocols},
            "interval": SEEDS_ALONE,
            "checkpoint": checkpoint_text(runs),
            "training": reached_text([run.checkpoint for run in runs]),
            **told,
        },
        SEEN: seen,
        "cpu_minutes": {
            "training of each": [round(float(run.checkpoint.state.get("cpu_seconds", 0.0)) / 60, 2) for run in runs],
            "evaluation of all": round(time.process_time() / 60, 2),
        },
        "versions": versions([run.checkpoint for run in runs], where),
        "rows": _rows(found, named_groups(runs)) + _rows(others, {}),
    }


def checkpoint_text(runs: Sequence[Trained]) -> str:
    """Which checkpoint of each run was measured: its last, the best on validation classes, or one that was named."""

    def of(run: Trained) -> str:
        if run.checkpoint.origin:
            return "weights as they came"
        if run.checkpoint.path.resolve() == run.path.resolve():
            return "the one that was named"
        if run.recipe.validation.split:
            return f"best of the run by its episodes of split {run.recipe.validation.split}"
        return "last of the run"

    texts = list(dict.fromkeys(map(of, runs)))
    return texts[0] if len(texts) == 1 else "; ".join(f"{run.label}: {of(run)}" for run in runs)


def _training(queries: Choice, own: Choice) -> Choice:
    """The bank where none was named: split train of the queries' data, or the training data where that is what it is."""
    found = own_split(queries, "train") or (own if own.name == queries.name else None)
    if found is None:
        raise ConfigError(
            f"{queries.name} has no training split, so there is no bank: give --bank NAME:FOLDER, or draw it from --data with "
            "--bank-share 0.5"
        )
    return found


def _feasible(wanted: Wanted, parts: Parts, say: Say) -> Wanted:
    """The numbers of labelled samples that every class of the bank has; says which are left out."""
    if "low_shot" not in wanted.protocols:
        return wanted
    shots = feasible(wanted.settings.shots, parts.bank.labels, f"the bank ({parts.bank.source.name})", say, beside=0)
    return replace(wanted, settings=replace(wanted.settings, shots=tuple(shots)))


def _measured(label: str, model: Model | None, parts: Parts, wanted: Wanted, device: torch.device, say: Say, work: Work) -> _Found:
    given = _embedded(model, parts, wanted.feature, device)
    figures: dict[str, np.ndarray] = {}
    chosen: dict[str, Mapping[str, str]] = {}
    for name in wanted.protocols:
        outcome: Outcome = PROTOCOLS[name].measured(given, wanted.settings)
        figures |= {metric: np.asarray(values, dtype=np.float64) for metric, values in outcome.figures.items()}
        chosen[name] = outcome.chosen
        say(f"measured {label}, {name}")
        work.step()
    return _Found(figures, chosen)


def _embedded(model: Model | None, parts: Parts, feature: str, device: torch.device) -> Embedded:
    def of(side: Side) -> torch.Tensor:
        name = side.source.spec.raw_feature if model is None else feature
        return features_of(model, side.source, device)[name][torch.from_numpy(side.rows)]

    return Embedded(of(parts.bank), parts.bank.labels, of(parts.queries), parts.queries.labels)


def _chosen(protocol: str, found: Mapping[str, _Found]) -> dict[str, Any]:
    """What a protocol chose for each encoder, by what it chose."""
    names = list(dict.fromkeys(what for one in found.values() for what in one.chosen[protocol]))
    return {f"{what} chosen": {label: one.chosen[protocol][what] for label, one in found.items()} for what in names}


def _rows(found: Mapping[str, _Found], groups: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Rows as result files hold them: means over runs that differ by their seed alone first, then every run by its name."""
    means = {mean: names for mean, names in groups.items() if len(names) > 1}
    part_of = {name: mean for mean, names in means.items() for name in names}
    rows = [
        _row(mean, metric, np.stack([found[name].figures[metric] for name in names]))
        for mean, names in means.items()
        for metric in found[names[0]].figures
    ]
    for name, one in found.items():
        belongs = {"part_of": part_of[name]} if name in part_of else {}
        rows += [{**_row(name, metric, values), **belongs} for metric, values in one.figures.items()]
    return rows


def _row(label: str, metric: str, values: np.ndarray) -> dict[str, Any]:
    over = mean_of(values)
    digits = 3 if "%" in metric else 6
    return {"label": label, "metric": metric, "mean": round(over.mean, digits), "ci95": round(over.half_width, digits), "n": len(values)}
