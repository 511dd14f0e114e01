"""`fewshot retrieve`: runs on the same queries and the same gallery, beside the references that they must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.progress import Work
from kinshot.core.runtime import resolve_device
from kinshot.kin.metric_names import Wanted
from kinshot.kin.neighbors.ranking import Metric
from kinshot.recipes.recipe import Choice
from kinshot.studies.fields import distinct_inputs, shared_data
from kinshot.studies.references import Reference, references
from kinshot.studies.retrieval.answers import Answered, looked_up, measured
from kinshot.studies.retrieval.pairs import verification_names, verified
from kinshot.studies.retrieval.rows import Arm, Figures
from kinshot.studies.retrieval.sides import Asked, Sides, sides_of
from kinshot.studies.seed_groups import pools_of, seed_groups
from kinshot.studies.study import Trained, check_run_features, load_runs, study_result

Say = Callable[[str], None]
RULE = "95 %, bootstrap (percentiles) over queries"


@dataclass(frozen=True)
class Lookup:
    """What to measure.

    Args:
        metrics: of `METRICS`.
        data: what both sides are from where they do not say; None for split test of the runs' own data.
        asked: what is looked up where.
        feature: backbone, projector, joint, or an output of the projector.
        distance: what is near: cosine or euclidean.
        reference: measure raw pixels and the untrained encoder, too.
        seed: key of the bootstrap.
        draws: lists of queries that are drawn again.
        far: shares of strangers accepted at which pairs are verified; none for no verification.
    """

    metrics: Sequence[Wanted]
    data: Choice | None = None
    asked: Asked = field(default_factory=Asked)
    feature: str = "backbone"
    distance: Metric = "cosine"
    reference: bool = True
    seed: int = 0
    draws: int = 1000
    far: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.draws < 100:
            raise ConfigError(f"--draws: the ends of an interval need at least 100 lists, got {self.draws}")
        if not all(0 <= far <= 1 for far in self.far):
            raise ConfigError(f"--verify: expected shares from 0 to 1, got {', '.join(f'{far:g}' for far in self.far)}")

    @property
    def figures(self) -> list[Wanted]:
        """Everything that has a figure: the metrics, and those of verification."""
        return [*self.metrics, *(Wanted(text, text) for text in verification_names(self.far))]


@dataclass(frozen=True)
class Bench:
    """What is studied: runs, references, and both sides by what an encoder meets."""

    runs: Sequence[Trained]
    others: Sequence[Reference]
    sides: dict[tuple[Any, ...], Sides]

    def of(self, run: Trained) -> Sides:
        """What a run's encoder meets."""
        return self.sides[run.input.meets]


def bench_of(paths: Sequence[Path], wanted: Lookup, say: Say) -> Bench:
    """Runs, references and data.

    Raises CheckpointError for a bad checkpoint, DataError and ConfigError for data and settings that do not fit.
    """
    runs = load_runs(list(paths), say=say)
    check_run_features([wanted.feature], runs)
    data = wanted.data or shared_data(runs)
    sides = {key: sides_of(data, wanted.asked, spec) for key, spec in distinct_inputs([run.input for run in runs]).items()}
    first, *others = sides.values()
    for other in others:
        if not all(np.array_equal(getattr(first, side).known, getattr(other, side).known) for side in ("queries", "gallery")):
            raise DataError(f"{first.queries.source.name} gives other classes at another input: study runs of one input at a time")
    if first.queries.known.ndim > 1 and wanted.asked.camera:
        raise ConfigError(
            "--camera leaves out what is of one identity and one camera, and --kin gives several labels: leave one of them out"
        )
    if first.repeated:
        say(f"warning: {first.repeated} of {len(first.queries.rows)} queries are in the gallery, too, by their content")
    for line in dict.fromkeys(line for side in (first.queries, first.gallery) for line in side.source.said()):
        say(line)
    return Bench(runs, references(runs, say) if wanted.reference else [], sides)


def retrieve(bench: Bench, wanted: Lookup, device: str, say: Say) -> dict[str, Any]:
    """Measure runs; returns the result that `fewshot retrieve --json` prints.

    Every model ranks the same gallery for the same queries. Queries without kin in the gallery are left out, and counted.

    Raises DataError and ConfigError for data and settings that do not fit.
    """
    where = resolve_device(device)
    work = Work(len(bench.runs) + len(bench.others), say, "ranking")

    def answers(label: str, model: Any, run: Trained) -> Answered:
        sides = bench.of(run)
        features = looked_up(model, sides, wanted.feature, where)
        found = measured(features, sides, wanted.metrics, wanted.distance, where)
        if wanted.far:
            found.whole.update(verified(features, sides, wanted.far, wanted.distance, wanted.seed))
        say(f"measured {label}")
        work.step()
        return found

    arms = []
    for label, group in pools_of(seed_groups(bench.runs, apart=True)).items():
        members = sorted(group.runs, key=lambda run: run.recipe.seed)
        found = {run.recipe.seed: answers(run.label, run.model, run) for run in members}
        arms.append(Arm(label, found, {run.recipe.seed: run.label for run in members}))
    for one in bench.others:
        seed = one.run.recipe.seed
        arms.append(Arm(one.label, {seed: answers(one.label, one.model, one.run)}, {seed: one.label}, reference=True))
    return _result(bench, wanted, arms, where)


def _result(bench: Bench, wanted: Lookup, arms: Sequence[Arm], where: torch.device) -> dict[str, Any]:
    figures, sides = Figures(wanted.figures, wanted.seed, wanted.draws), bench.of(bench.runs[0])
    asking = len(next(iter(arms[0].members.values())).queries)
    met = {"": [bench.of(run).queries.source for run in bench.runs]}
    if not sides.shared:
        met = {"queries": met[""], "gallery": [bench.of(run).gallery.source for run in bench.runs]}
    data = {**sides.describe(), "queries without kin, left out": len(sides.queries.rows) - asking}
    found = study_result(bench.runs, data, _protocol(wanted, sides), figures.rows(arms), where, met)
    return {
        **found,
        "references": [arm.label for arm in arms if arm.reference],
        "paired": [asdict(difference) for difference in figures.differences(arms)],
    }


def _protocol(wanted: Lookup, sides: Sides) -> dict[str, Any]:
    asked = wanted.asked
    several = sides.queries.known.ndim > 1
    rule = f"by {asked.camera}: nothing of the query's own class and {asked.camera} is met" if asked.camera else ""
    return {
        "kin": f"share a value of {asked.kin}, the more the more relevant" if several else f"of one {asked.kin}",
        **({"camera rule": rule} if rule else {}),
        "feature": wanted.feature,
        "near": wanted.distance,
        "equally near": "in the order of the gallery",
        "seed": wanted.seed,
        "lists drawn again": wanted.draws,
        **({"verification": "of a query and a sample of the gallery, each pair once; no interval of one run"} if wanted.far else {}),
        "interval": RULE,
    }
