"""What a run of the audit is worth: functions `(run, ask, seed) -> {figure: value}`, percent where a figure is a share."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.claims.ancestors import ancestors
from benchmarks.claims.by_class import by_class
from benchmarks.claims.nodes import nodes
from kinshot.cli.retrieve import retrieve_command
from kinshot.cli.subclasses import subclasses_command
from kinshot.datasets import SOURCES
from kinshot.datasets.wrong_labels import wrong_labels
from kinshot.kin.verification import auc
from kinshot.objectives.proxies.sub_center_arc_face import dominant_angles
from kinshot.recipes.loaded import read
from kinshot.runs.embedder import from_checkpoint
from kinshot.studies.answers import features_of

Measure = Callable[[Path, Mapping[str, Any], int], dict[str, float]]


def retrieve(run: Path, ask: Mapping[str, Any], seed: int) -> dict[str, float]:
    """The table of `fewshot retrieve RUN OPTIONS`, without intervals: those of the audit go over seeds.

    `options` is what stands behind RUN on the command line; `suffix` is put behind the figures' names.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        out = Path(folder) / "rows.json"
        words = [str(run), *shlex.split(ask["options"]), "--no-reference", "--draws", "100", "--results", str(out), "-q"]
        retrieve_command.main(words, standalone_mode=False)
        rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    return {row["metric"].removesuffix(", %") + ask.get("suffix", ""): row["mean"] for row in rows}


def retrieve_on_the_way(run: Path, ask: Mapping[str, Any], seed: int) -> dict[str, float]:
    """`retrieve` of each checkpoint that the run kept, by its step; and `area`, the mean of each figure over them: how soon it is good."""
    folders = sorted(folder for folder in (run / "checkpoints").iterdir() if int(folder.name.removeprefix("step-")))
    found = {folder: retrieve(folder, ask, seed) for folder in folders}
    steps = {f"{name}@{int(folder.name.removeprefix('step-'))}": value for folder, one in found.items() for name, value in one.items()}
    return steps | {f"area_{name}": sum(one[name] for one in found.values()) / len(found) for name in found[folders[0]]}


def wrong_label_filter(run: Path, ask: Mapping[str, Any], seed: int) -> dict[str, float]:
    """How well angles to the dominant sub-center tell wrong training labels from right ones: `filter_auc`, percent; a guess has 50."""
    loaded = read(run)
    recipe, tensors = loaded.recipe, loaded.checkpoint.training
    rows = tensors["terms/0.objective.rows.weight"]
    source = SOURCES.build(recipe.data.name, settings=recipe.data.settings)
    labels, classes = source.labels, len(source.class_names)
    assert labels is not None, "a source with labels"
    given, wrong = wrong_labels(labels, classes, recipe.train.wrong_labels, recipe.seed)
    z = features_of(from_checkpoint(loaded), source, torch.device("cpu"))["projector"].float()
    angles = dominant_angles(z, torch.from_numpy(given).long(), rows, len(rows) // classes)
    return {"filter_auc": 100 * auc(angles.numpy(), wrong)}


def subclasses(run: Path, ask: Mapping[str, Any], seed: int) -> dict[str, float]:
    """What `ssl subclasses RUN OPTIONS` says of the run's embedding, in percent."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        subclasses_command.main([str(run), *shlex.split(ask["options"]), "--json", "-q"], standalone_mode=False)
    (row,) = [one for one in json.loads(said.getvalue())["rows"] if one["way"] == "divided now"]
    return {name: 100 * row[name] for name in ("ari_within", "ari", "nmi")}


MEASURES: dict[str, Measure] = {
    "retrieve": retrieve,
    "retrieve_on_the_way": retrieve_on_the_way,
    "wrong_label_filter": wrong_label_filter,
    "ancestors": ancestors,
    "by_class": by_class,
    "nodes": nodes,
    "subclasses": subclasses,
}
