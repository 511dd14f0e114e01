"""`ssl measure`: what encoders cost and what they reach, teacher and students side by side on the same episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.rng import keyed_numpy
from kinshot.core.runtime import cpu_model, resolve_device
from kinshot.core.statistics.means import RULE
from kinshot.datasets.base import Source
from kinshot.learn.knn import leave_one_out
from kinshot.learn.model import Model
from kinshot.recipes.recipe import Choice
from kinshot.runs.sweep_folder import runs_of
from kinshot.studies.answers import Protocol, Say, build_source, features_of
from kinshot.studies.answers import measure as measure_heads
from kinshot.studies.fields import Fields, shared_data
from kinshot.studies.footprint import footprint
from kinshot.studies.intervals import accuracies, roughness
from kinshot.studies.latency import Timing, latencies
from kinshot.studies.measure_rows import DISTILLED, INT8, STUDENT, TEACHER, MeasuredModel, RunAccuracy, result_rows, row_of
from kinshot.studies.quantize import quantized
from kinshot.studies.results import ROUGH
from kinshot.studies.seed_groups import SeedGroup, seed_groups
from kinshot.studies.study import Trained, check_run_features, load_runs, study_result
from kinshot.studies.tasks import Drawing, Tasks


@dataclass(frozen=True)
class MeasureSettings:
    """What to measure.

    Args:
        drawing: the episodes, the same for all runs.
        data: source of the episodes and of kNN; None for the data that all runs were trained on, split test.
        head: (text, name, settings) of the head.
        feature: backbone, projector, joint, or an output of the projector.
        k: neighbors that vote.
        to: name of the row to which differences are taken; empty for the first.
        quantize: measure each run in int8 too.
        calibration: samples of a run's training data from which int8 learns its ranges.
        timing: how latency is measured.
        device: where features are computed; latency and int8 are always the CPU's.
    """

    drawing: Drawing
    data: Choice | None = None
    head: tuple[str, str, dict[str, Any]] = ("prototype", "prototype", {})
    feature: str = "backbone"
    k: int = 20
    to: str = ""
    quantize: bool = False
    calibration: int = 256
    timing: Timing = field(default_factory=Timing)
    device: str = "auto"


def measure(runs: Sequence[Path], settings: MeasureSettings, say: Say, *, names: Sequence[str] = ()) -> dict[str, Any]:
    """Measure runs, the first of which is the teacher; returns the result that `ssl measure --json` prints.

    Runs that differ by their seed alone make one row. Rows of several runs have intervals over runs and episodes, those of a single
    run over episodes; so have differences to the teacher (or another row), paired by seed or by episode.

    Args:
        runs: run folders, sweeps' folders or checkpoints.
        settings: what to measure.
        say: where messages go.
        names: what each of the runs is called, empty for its path.

    Raises CheckpointError for a bad checkpoint, DataError for data that cannot give the episodes, ConfigError for settings.
    """
    settings.timing.check()
    device = resolve_device(settings.device)
    placed = [(name, path) for name, given in zip(names or [""] * len(runs), runs, strict=True) for path in runs_of([given])]
    trained = load_runs([path for _, path in placed])
    check_run_features([settings.feature], trained)
    choice = settings.data or shared_data(trained)
    bench = _Bench(settings, Fields(choice, [run.input for run in trained], settings.drawing), device, say)
    groups = seed_groups(trained, [name for name, _ in placed])
    labels = [group.label for group in groups]
    to = settings.to or labels[0]
    if to not in labels:
        raise ConfigError(f"--to {to}: no such row; {suggest(to, labels)}")
    models: list[tuple[MeasuredModel, Model]] = []
    for group in groups:
        role = TEACHER if not models else DISTILLED if group.runs[0].recipe.distill.losses else STUDENT
        models.append(bench.model(group.label, role, group))
        if settings.quantize:
            models.append(bench.model(f"{group.label}, int8", INT8, group))
    say(f"timing {len(models)} encoders in turn")
    times = latencies([(embedder.cpu().encoder, embedder.input) for _, embedder in models], settings.timing)
    reference = next(model for model, _ in models if model.label == to)
    rows = [row_of(model, latency, reference) for (model, _), latency in zip(models, times, strict=True)]
    met = {"": [bench.fields.of(run.input).source for run in trained]}
    protocol = _protocol(settings, bench.fields.tasks, to)
    if rough := roughness(accuracies(result_rows(rows)), [settings.drawing.episodes]):
        protocol[ROUGH] = rough
    return study_result(trained, bench.fields.describe(), protocol, rows, device, met)


def _protocol(settings: MeasureSettings, tasks: Tasks, to: str) -> dict[str, Any]:
    timing = settings.timing
    int8 = {"int8": f"post-training, {settings.calibration} samples of each run's training data"} if settings.quantize else {}
    return {
        **settings.drawing.describe(tasks),
        "head": settings.head[0],
        "feature": settings.feature,
        "kNN": f"k {settings.k}, leave one out, votes 1 / distance; ± over checkpoints alone, not over the samples that they share",
        "MACs": "multiply-accumulates of convolutions, linear layers and matrix products, one sample",
        "latency": f"median of {timing.repeats} calls of the encoder, all encoders in turn, {timing.threads} thread(s), {cpu_model()}",
        **int8,
        "interval": RULE,
        "differences": f"to {to}, paired by seed where there are several runs, else by episode",
    }


class _Bench:
    """Measures one model after another on the same episodes."""

    def __init__(self, settings: MeasureSettings, fields: Fields, device: torch.device, say: Say) -> None:
        self.settings, self.fields, self.device, self.say = settings, fields, device, say
        self._training: dict[str, Source] = {}

    def model(self, label: str, role: str, group: SeedGroup) -> tuple[MeasuredModel, Model]:
        """One row, what the group's first run weighs and what all its runs reach; and the model of that run."""
        int8 = role == INT8
        found = [self._int8(run) if int8 else run.model for run in group.runs]
        cost = footprint(found[0].cpu(), origin=group.runs[0].model.cpu() if int8 else None)
        reached = tuple(self._run(label, run, model, int8) for run, model in zip(group.runs, found, strict=True))
        return MeasuredModel(label, group.name, role, cost, reached), found[0]

    def _run(self, label: str, run: Trained, model: Model, int8: bool) -> RunAccuracy:
        met = self.fields.of(run.input)
        s, device = self.settings, torch.device("cpu") if int8 else self.device
        protocol = Protocol(None, None, s.drawing, [s.head], [s.feature], reference=False)
        found = measure_heads(f"{label}, seed {run.recipe.seed}", model, run, met.source, met.tasks, protocol, device, self.say)
        features = features_of(model, met.source, device)[s.feature].numpy()
        accuracy, _ = leave_one_out(features, np.asarray(met.source.labels), k=s.k)
        return RunAccuracy(run.recipe.seed, {(m.ways, m.shots): m.accuracy for m in found}, 100 * accuracy)

    def _int8(self, run: Trained) -> Model:
        data = run.recipe.data
        key = repr((data, run.input.meets))
        if key not in self._training:
            self._training[key] = build_source(data, run.input)
        source = self._training[key]
        chosen = keyed_numpy(0, "calibration").permutation(len(source))[: self.settings.calibration]
        return quantized(run.model, source.load(np.sort(chosen)))
