"""`segmentation eval`: checkpoints on dense episodes of unseen classes, beside what needs no learning at all.

Every image is encoded once for a task, and every model and segmenter sees the same episodes; figures are made of counts of pixels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.progress import Work
from kinshot.core.runtime import resolve_device
from kinshot.datasets import SOURCES
from kinshot.datasets.scenes import IMAGE, Scenes
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.recipes.recipe import Choice
from kinshot.recipes.segmenters import SegmenterChoice
from kinshot.runs.reached import reached_text
from kinshot.runs.trained_segmenters import check_networks, model_segmenter, own_segmenter
from kinshot.samples.spec import Spec
from kinshot.segmentation.boundary import Unsaid
from kinshot.segmentation.counts import Counts
from kinshot.segmentation.evaluate import Limits, Outlines, encoder_maps, evaluate_episodes
from kinshot.segmentation.intervals import Over
from kinshot.segmentation.protocol import Protocol
from kinshot.studies.fields import distinct_inputs, shared_data
from kinshot.studies.lineage import Lineage
from kinshot.studies.provenance import commands_behind, versions
from kinshot.studies.references import references
from kinshot.studies.results import SEEN
from kinshot.studies.seen import seen_fields
from kinshot.studies.segmentation.families import FOLD, Family, Fold, families, own_fold, runs_on
from kinshot.studies.segmentation.lost import losing, lost_notes
from kinshot.studies.segmentation.rows import Cell, Results, all_rows, class_rows
from kinshot.studies.segmentation.tasks import Say, SceneDrawing, SceneTasks, make_tasks, scenes_of
from kinshot.studies.study import Trained, seeds_of

RULE_SETS: dict[str, tuple[str, ...]] = {
    "standard": ("miou", "fb_iou", "dice", "boundary_f"),
    "panet": ("panet_miou", "panet_fb_iou", "dice", "boundary_f"),
    "image": ("image_iou", "fb_iou", "dice", "boundary_f"),
}
"""The rules of each `--protocol`, the first one first."""
_RIMS: dict[Unsaid, str] = {"drop": "", "nearest": "; where the truth says nothing both have the label of the nearest pixel"}


@dataclass(frozen=True)
class SegmentationProtocol:
    """What is measured.

    Args:
        data: evaluation source; None for what the checkpoints were trained on, split test.
        folds: of the source; empty for the runs' own, or the one that the data say.
        drawing: the episodes.
        heads: segmenters; none for those that the runs trained, `cosine` where one trained none.
        stage: of the encoder, see `kinshot.runs.trained_segmenters.model_segmenter`.
        scoring: at which size predictions meet truth, and how.
        rules: a name of `RULE_SETS`.
        interval: what is drawn again, `episodes` or `classes`.
        reference: measure the class-blind rules and the untrained encoder too.
        tolerance: of outlines, as a share of the diagonal; 0 leaves them out.
        limits: what may be held at a time.
        rims: what outlines do where the truth says nothing, see `kinshot.segmentation.boundary.count_edges`.
    """

    data: Choice | None
    folds: Sequence[int]
    drawing: SceneDrawing
    heads: Sequence[SegmenterChoice]
    stage: str = ""
    scoring: Protocol = field(default_factory=Protocol)
    rules: str = "standard"
    interval: Over = "episodes"
    reference: bool = True
    tolerance: float = 0.0
    limits: Limits = field(default_factory=Limits)
    rims: Unsaid = "drop"

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the rules."""
        return tuple(name for name in RULE_SETS[self.rules] if name != "boundary_f" or self.tolerance)


@dataclass(frozen=True)
class Met:
    """What one fold's models meet: the source as each kind of input has it, and the episodes, the same for all."""

    sources: Mapping[tuple[Any, ...], Scenes]
    tasks: SceneTasks

    @property
    def scenes(self) -> Scenes:
        """One of the sources."""
        return next(iter(self.sources.values()))


def evaluate_segmentation(runs: Sequence[Trained], protocol: SegmentationProtocol, device: str, say: Say) -> dict[str, Any]:
    """Measure checkpoints; returns the result that `segmentation eval --json` prints.

    Raises CheckpointError for a bad checkpoint, DataError for data that cannot give the episodes, ConfigError for settings.
    """
    where = resolve_device(device)
    protocol = replace(protocol, heads=protocol.heads or list({own.text: own for own in map(own_segmenter, runs)}.values()))
    check_networks(protocol.heads, runs)
    data, folds = chosen_folds(runs, protocol)
    if protocol.drawing.save is not None and len(folds) > 1:
        raise ConfigError(f"--save-episodes keeps the episodes of one fold, got {len(folds)}: give one of --fold")
    if protocol.drawing.list and len(folds) > 1:
        raise ConfigError(f"--episode-list holds the episodes of one fold, got {len(folds)}: give one of --fold")
    for run in runs:
        own = own_fold(run, data)
        if len(folds) > 1 and own is not None:
            if own not in folds:
                raise ConfigError(f"{run.path} left out fold {own} in training, and --fold asks for others: add {own}, or leave it out")
            say(f"{run.path} left out fold {own} in training: measured on that alone")
    met = {fold: meet(with_fold(data, fold), [run.input for run in runs], protocol.drawing, say) for fold in folds}
    made = families(runs, data, folds)
    known = [one for one in references(runs) if one.model is not None] if protocol.reference else []
    for note in _lost(runs, data, folds, met, protocol):
        say(note)
    found: Results = {}
    work = Work(sum(len(runs_on(fold, runs, data, folds)) + len(known) for fold in folds) * len(met[folds[0]].tasks), say, "measuring")
    for fold in folds:
        for run in runs_on(fold, runs, data, folds):
            _measure(found, fold, run.label, run.model, run, met[fold], protocol, where, work)
        for one in known:
            if one.model is not None:
                _measure(found, fold, one.label, one.model, one.run, met[fold], protocol, where, work, trained=False)
        if protocol.reference:
            _blind(found, fold, met[fold], protocol)
    return {
        **_account(runs, made, data, folds, met, protocol, where),
        **all_rows(
            found,
            made,
            {family.label: own_segmenter(family.members[0]).name for family in made},
            folds,
            [one.label for one in known],
            protocol.measures,
            protocol.interval,
            protocol.drawing.seed,
        ),
        "classes": class_rows(found, {fold: met[fold].scenes.class_names for fold in folds}),
    }


def chosen_folds(runs: Sequence[Trained], protocol: SegmentationProtocol) -> tuple[Choice, list[Fold]]:
    """The data without their fold, and the folds: those asked for, those of the runs, or the one that the data say. Raises ConfigError."""
    data = protocol.data
    if data is None:
        data = shared_data([replace(run, recipe=replace(run.recipe, data=without_fold(run.recipe.data))) for run in runs])
    has = FOLD in SOURCES.entry(data.name).parameters
    if protocol.folds and not has:
        raise ConfigError(f"--fold: {data.name} has no folds: leave it out")
    own = sorted({fold for run in runs if (fold := own_fold(run, data)) is not None}) if has and FOLD not in data.settings else []
    folds: list[Fold] = [*protocol.folds] or [*own] or [data.settings.get(FOLD)]
    return without_fold(data), folds


def without_fold(data: Choice) -> Choice:
    """A choice of data that says no fold."""
    return Choice(data.name, {key: value for key, value in data.settings.items() if key != FOLD})


def with_fold(data: Choice, fold: Fold) -> Choice:
    """A choice of data on a fold."""
    return data if fold is None else Choice(data.name, {**data.settings, FOLD: fold})


def meet(data: Choice, inputs: Sequence[Spec], drawing: SceneDrawing, say: Say) -> Met:
    """The source as every kind of input has it, and the episodes. Raises DataError where they would differ between inputs."""
    sources = {key: scenes_of(data, spec) for key, spec in distinct_inputs(inputs).items()}
    first, *others = sources.values()
    for note in dict.fromkeys(note for source in sources.values() for note in source.said()):
        say(note)
    tasks = make_tasks(first, drawing, say)
    for other in others:
        again = make_tasks(other, replace(drawing, save=None), lambda text: None)
        if other.class_names != first.class_names or any(again[task].hash() != episodes.hash() for task, episodes in tasks.items()):
            raise DataError(
                f"{first.name} gives other episodes at another input size, {first.frame} and {other.frame}, as small objects are lost in "
                "the smaller: bring the images of all to one size (--set size=N), or measure checkpoints of one input size at a time"
            )
    return Met(sources, tasks)


def _lost(
    runs: Sequence[Trained], data: Choice, folds: Sequence[Fold], met: Mapping[Fold, Met], protocol: SegmentationProtocol
) -> list[str]:
    """What segmenters lose of the support in the maps of the runs; what several of them lose alike is looked for once."""
    alike = {
        (fold, choice.text, run.input.meets, how, size): choice
        for fold in folds
        for run in runs_on(fold, runs, data, folds)
        for choice in protocol.heads
        for how, size in losing(choice, run, protocol.stage, met[fold].sources[run.input.meets])
    }
    return [
        note
        for (fold, _, meets, how, size), choice in alike.items()
        for note in lost_notes(choice, how, size, met[fold].sources[meets], met[fold].tasks)
    ]


def _measure(
    found: Results, fold: Fold, label: str, model: Model, run: Trained, met: Met, protocol: SegmentationProtocol, device: torch.device,
    work: Work, *, trained: bool = True,
) -> None:  # fmt: skip
    """Counts of every segmenter of one model on every task of a fold; those that look at the same stages share one pass."""
    scenes = met.sources[run.input.meets]
    run.input.check_source(scenes.only(IMAGE))
    by_stages: dict[tuple[str, ...], dict[str, Any]] = {}
    for choice in protocol.heads:
        made = model_segmenter(choice, model, run, protocol.stage, trained=trained)
        if made is not None:
            by_stages.setdefault(made.stages, {})[choice.text] = made.segmenter
    model.to(device)
    for (ways, shots), episodes in met.tasks.items():
        for stages, segmenters in by_stages.items():
            counts = evaluate_episodes(
                episodes, scenes, encoder_maps(model, scenes, stages), segmenters, protocol=protocol.scoring, limits=protocol.limits,
                outlines=_outlines(protocol),
            )  # fmt: skip
            found.setdefault(Cell(fold, ways, shots), {}).update({(label, name): one for name, one in counts.items()})
        work.step()


def _blind(found: Results, fold: Fold, met: Met, protocol: SegmentationProtocol) -> None:
    for (ways, shots), episodes in met.tasks.items():
        counts: dict[str, Counts] = evaluate_episodes(
            episodes, met.scenes, lambda rows: {}, {}, protocol=protocol.scoring, limits=protocol.limits, blind=True,
            outlines=_outlines(protocol),
        )  # fmt: skip
        found.setdefault(Cell(fold, ways, shots), {}).update({(name, ""): one for name, one in counts.items()})


def _outlines(protocol: SegmentationProtocol) -> Outlines | None:
    return Outlines(protocol.tolerance, protocol.rims) if protocol.tolerance else None


def _account(
    runs: Sequence[Trained], made: Sequence[Family], data: Choice, folds: Sequence[Fold], met: Mapping[Fold, Met],
    protocol: SegmentationProtocol, device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    """Where the figures come from, and what they are of."""
    checkpoints = [run.checkpoint for run in runs]
    lineage = Lineage((run.path, run) for run in runs)
    listed: list[dict[str, Any]] = []
    said: dict[str, str] = {}
    for fold in folds:
        there = runs_on(fold, runs, data, folds)
        if not there:
            continue
        role = "" if fold is None else f"fold {fold}"
        seen, lines = seen_fields(there, {role: [met[fold].sources[run.input.meets].only(IMAGE) for run in there]}, lineage)
        listed, said = listed + seen, said | lines
    scenes = met[folds[0]].scenes
    return {
        "checkpoints": [str(checkpoint.path) for checkpoint in checkpoints],
        "weights": [weights_hash(checkpoint.encoder) for checkpoint in checkpoints],
        "pretrained_by": commands_behind(((run.path, run) for run in runs), lineage),
        "seeds": seeds_of(runs),
        "data": {
            "name": scenes.name, **data.settings, **({FOLD: list(folds)} if folds != [None] else {}),
            "classes": sum(len(one.scenes.class_names) for one in met.values()), "images": len(scenes), "frame": str(scenes.frame),
        },
        "protocol": {
            **_drawn(met, protocol),
            "heads": ", ".join(choice.text for choice in protocol.heads),
            **({"stage": protocol.stage} if protocol.stage else {}),
            "rules": protocol.rules, **protocol.scoring.as_dict(),
            **({"outlines": f"within {protocol.tolerance:g} of the diagonal{_RIMS[protocol.rims]}"} if protocol.tolerance else {}),
            "interval": f"95 %, bootstrap over {protocol.interval}; of several seeds also over seeds (Student t), in quadrature",
            "support and query": "of different photographs",
            "training": reached_text(checkpoints),
            **said,
        },
        SEEN: listed,
        "main": made[0].label,
        "cpu_minutes": {
            "training of each": [round(float(one.state.get("cpu_seconds", 0.0)) / 60, 2) for one in checkpoints],
            "evaluation of all": round(time.process_time() / 60, 2),
        },
        "versions": versions(checkpoints, device),
    }  # fmt: skip


def _drawn(met: Mapping[Fold, Met], protocol: SegmentationProtocol) -> dict[str, Any]:
    """What is said of the episodes, with a hash for every fold and task."""
    told = {fold: protocol.drawing.describe(one.tasks) for fold, one in met.items()}
    first = next(iter(told.values()))
    hashes = "; ".join(
        f"fold {fold}: {one['episode hashes']}" if fold is not None else str(one["episode hashes"]) for fold, one in told.items()
    )
    return {**first, "episode hashes": hashes}
