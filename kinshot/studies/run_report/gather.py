"""Everything that the page of a run says, read and measured; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import kinshot
from kinshot.core.config import flatten
from kinshot.core.errors import DataError, KinshotError
from kinshot.core.run_files import METRICS, TIMING
from kinshot.core.small_files import read_json
from kinshot.learn.features import weights_hash
from kinshot.learn.records import read_records
from kinshot.recipes.recipe import Choice, knows_labels
from kinshot.runs.begun import stand_in_notes
from kinshot.runs.reached import reached_by, run_folder
from kinshot.studies.lineage import Lineage
from kinshot.studies.provenance import commands_behind
from kinshot.studies.report.words import named_data, named_runs, printable
from kinshot.studies.run_report.clusters import clusters_of
from kinshot.studies.run_report.content import Content, Curve, Gauge
from kinshot.studies.run_report.curves import curves_from
from kinshot.studies.run_report.embedding_map import embedding_map
from kinshot.studies.run_report.gauges import measured_gauges, recorded_gauges
from kinshot.studies.run_report.looked import Looked, Opened, looked_at, opened
from kinshot.studies.run_report.neighbors import neighbor_strips
from kinshot.studies.run_report.retrieval import retrieval_of
from kinshot.studies.run_report.views import Grid, view_grid

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What a report is about.

    Args:
        run: a run folder or a checkpoint.
        data: other samples than those that the run was trained on, or the place where these are now; None for none.
        feature: backbone, projector, joint, or an output of the projector.
        samples: how many are embedded at most.
        device: where.
        command: the command line.
    """

    run: Path
    data: Choice | None
    feature: str
    samples: int
    device: torch.device
    command: str


@dataclass(frozen=True)
class Gathered:
    """What was found: the content, the samples that it shows (none where the data is not there), and pictures of views."""

    content: Content
    looked: Looked | None
    grid: Grid | None


def gather(asked: Asked, say: Say) -> Gathered:
    """Read and measure a run.

    Raises:
        CheckpointError: a bad checkpoint.
        ConfigError: what is no run, or a feature that it does not give.
        DataError: data that was asked for and cannot be read. Where the run's own data is gone, the page does without.
    """
    by = opened(asked.run, asked.feature, asked.device)
    folder = run_folder(by.run.checkpoint.path)
    curves, timing, absent = _records(folder, say)
    looked, lost = _looked(by, asked, say)
    warnings = _warnings(by, folder, looked)
    if lost:
        warnings.append(lost)
    known = dict.fromkeys(("views", "map", "neighbors", "clusters", "retrieval"), lost) if lost else {}
    found: dict[str, Any] = {}
    grid: Grid | None = None
    gauges: list[Gauge] = []
    if looked is not None:
        say(f"embedded {len(looked.rows)} of {len(looked.source)} samples")
        grid, gauges, found, known = _measured(looked, say)
    content = Content(
        title=printable(f"{named_runs([folder])} on {_data_name(by, looked, asked)}"),
        command=printable(asked.command),
        reached=str(reached_by(by.run.checkpoint)),
        about=_about(by, looked, folder),
        warnings=[printable(text) for text in warnings],
        curves=curves,
        checkpoint_step=by.run.checkpoint.step,
        gauges=[*recorded_gauges(curves, timing, gauges), *gauges],
        absent={key: printable(text) for key, text in {**absent, **known}.items()},
        **found,
    )
    return Gathered(content, looked, grid)


def _measured(looked: Looked, say: Say) -> tuple[Grid | None, list[Gauge], dict[str, Any], dict[str, str]]:
    """Pictures of views, gauges, the parts of a page that samples give, and why others are absent."""
    recipe, absent, source = looked.by.run.recipe, {}, looked.source
    epochs = recipe.train.epochs + sum(recipe.train.extend)
    done = max(0, looked.by.run.checkpoint.epoch - 1)
    grid = view_grid(looked, sorted({0, done}))
    if grid is None:
        absent["views"] = f"The samples are {looked.by.input.describe()}, which have no pictures to show."
    labels, classes = source.labels, len(source.class_names) if knows_labels(recipe) else 0
    say("measuring gauges")
    gauges = measured_gauges(looked, epochs, classes)
    if not looked.by.run.checkpoint.step:  # nothing can have gone wrong yet
        gauges = [replace(gauge, verdict="unknown", advice="") for gauge in gauges]
    say("drawing maps of the embedding")
    found: dict[str, Any] = {"map": embedding_map(looked)}
    say("looking for neighbors and clusters")
    found |= {"strips": neighbor_strips(looked), "clusters": clusters_of(looked), "retrieval": retrieval_of(looked)}
    few = "There are too few samples for it."
    absent |= {key: few for key, part in (("map", "map"), ("neighbors", "strips"), ("clusters", "clusters")) if found[part] is None}
    if found["retrieval"] is None:
        have = "have no labels" if source.contains is None else "hold several classes each"
        without = f"The samples {have}, so that nothing says which of them are kin: give labelled ones with --data."
        absent["retrieval"] = without if labels is None else "No class has two samples that are no copies of one another."
    found["views"] = None if grid is None else grid.shown
    if labels is not None:
        found["labels"] = [printable(name) for name in source.class_names]
        found["label_of"] = {index: int(labels[index]) for index in sorted(_shown(found))}
    return grid, gauges, found, absent


def shown_samples(content: Content) -> list[int]:
    """Numbers of the samples that are shown at full size."""
    strips = content.strips.strips if content.strips else []
    clusters = content.clusters.shown if content.clusters else []
    near = [found.index for strip in strips for found in strip.nearest]
    return [*(content.views.indices if content.views else []), *(s.index for s in strips), *near, *(i for c in clusters for i in c.nearest)]


def _shown(found: dict[str, Any]) -> set[int]:
    content = Content("", "", "", {}, [], [], 0, [], **found)
    return {*shown_samples(content), *(point.index for point in (content.map.points if content.map else []))}


def _records(folder: Path, say: Say) -> tuple[list[Curve], list[Curve], dict[str, str]]:
    """Curves of the run and of its timing, and what is to be said where there are none."""
    read, told = [], ""
    for name in (METRICS, TIMING):
        try:
            read.append(curves_from(read_records(folder / name)))
        except DataError as problem:
            say(f"warning: {problem}")
            told = f"The records cannot be read: {problem}."
            read.append([])
    if not read[0] and not told:
        told = f"There is no {METRICS} beside the checkpoint: a run writes it into its folder."
    return read[0], read[1], {"curves": told} if told else {}


def _looked(by: Opened, asked: Asked, say: Say) -> tuple[Looked | None, str]:
    """The samples, or why there are none. Raises for data that was asked for."""
    try:
        return looked_at(by, asked.data, asked.samples), ""
    except DataError as problem:
        if asked.data is not None:
            raise
        lost = f"the run's data cannot be read, so that this page shows no samples: {problem}; say where it is now with --data NAME:FOLDER"
        say(f"warning: {lost}")
        return None, lost


def _warnings(by: Opened, folder: Path, looked: Looked | None) -> list[str]:
    found, at = [], reached_by(by.run.checkpoint)
    if at.finished is False:
        found.append(f"training did not get to its end: {at}")
    try:
        diverged = read_json(folder / "diverged.json")
        found.append(f"training diverged at step {int(diverged['step'])}: {diverged['reason']}")
    except (KinshotError, KeyError, TypeError, ValueError):
        pass
    if looked is not None and not looked.own:
        found.append("these are other samples than those that the run was trained on")
    if knows_labels(by.run.recipe) and looked is not None and looked.labels is not None:
        found.append("training was given labels, so that figures of classes it knows say nothing of new ones")
    return found


def _data_name(by: Opened, looked: Looked | None, asked: Asked) -> str:
    choice = by.run.recipe.data if asked.data is None else asked.data
    return named_data(choice.name if looked is None else looked.source.name, dict(choice.settings))


def _about(by: Opened, looked: Looked | None, folder: Path) -> dict[str, str | list[str]]:
    run, recipe = by.run, by.run.recipe
    found: dict[str, str | list[str]] = {
        "Recipe": recipe.name,
        "Method": " ".join([recipe.method.name, *(f"{key}={value}" for key, value in recipe.method.settings.items())]),
        "Encoder": " ".join([recipe.encoder.name, *(f"{key}={value}" for key, value in recipe.encoder.settings.items())]),
        "Checkpoint": str(run.checkpoint.path),
        "Training": str(reached_by(run.checkpoint)),
        "Seed": str(recipe.seed),
    }
    if recipe.all_terms:
        found["Terms"] = [", ".join(f"{key} {value}" for key, value in flatten(term.to_dict()).items()) for term in recipe.all_terms]
    if looked is not None:
        source = looked.source
        classes = "no labels" if source.labels is None else f"{len(source.class_names)} classes"
        drawn = "" if len(looked.rows) == len(source) else ", drawn evenly by the run's seed (--samples)"
        found["Data"] = f"{source.name}, {len(source)} samples, {classes}"
        found["Looked at"] = f"{len(looked.rows)} of {len(source)} samples{drawn}, feature {by.feature}, computed on {by.device.type}"
        notes = [*stand_in_notes(looked.data.whole), *source.said(), *looked.by.started[1]]
        if notes:
            found["Notes"] = notes
    lineage = Lineage([(folder, run)])
    found |= {
        "Trained by": commands_behind([(folder, run)], lineage),
        "Weights hash": weights_hash(run.checkpoint.encoder),
        "Versions": f"kinshot {kinshot.__version__}, torch {torch.__version__}",
    }
    return {key: printable(text) if isinstance(text, str) else [printable(line) for line in text] for key, text in found.items()}
