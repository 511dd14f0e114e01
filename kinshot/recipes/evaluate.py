"""`fewshot eval`: checkpoints on episodes of unseen classes, beside the references that they must beat.

Features of the whole split are computed once per model and cached by content; every model and head sees the same episodes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import kinshot
from kinshot.core.checkpoint import Checkpoint, load_checkpoint
from kinshot.core.errors import DataError
from kinshot.core.features import cached_features, extract, joint_feature, raw_features, weights_hash
from kinshot.core.runtime import resolve_device
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.encoders.base import InputSpec, Spec, check_source
from kinshot.fewshot.base_statistics import BaseStatistics, base_statistics
from kinshot.fewshot.evaluate import takes
from kinshot.fewshot.records import Records, episode_records
from kinshot.fewshot.statistics import RULE
from kinshot.recipes.embedder import Embedder, from_checkpoint, input_spec, untrained
from kinshot.recipes.recipe import Choice, differences, load_recipe, parse, recipe_names, train_command
from kinshot.recipes.specs import check_features
from kinshot.recipes.summaries import (
    REFERENCES,
    SEED_RULE,
    Difference,
    Line,
    Measured,
    beats,
    compared,
    head_differences,
    over_checkpoints,
    summarized,
)
from kinshot.recipes.sweep import runs_of, sweep_commands
from kinshot.recipes.tasks import Drawing, Tasks, make_tasks
from kinshot.recipes.trained_heads import INPUT, flat_inputs, trained_heads

Say = Callable[[str], None]


@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Args:
        data: evaluation source; settings that were not given are filled from the checkpoint's input.
        base: source of the base classes, for heads that know them; none takes the checkpoint's training data.
        drawing: the episodes.
        heads: (text, name, settings) of each head.
        features: some of backbone, projector and joint.
        reference: measure raw pixels and the untrained encoder too.
        compare: a setting, or several with commas, by which checkpoints are grouped and compared, paired by seed; empty for none.
    """

    data: Choice | None
    base: Choice | None
    drawing: Drawing
    heads: list[tuple[str, str, dict[str, Any]]]
    features: list[str]
    reference: bool = True
    compare: str = ""


def evaluate(paths: list[Path], protocol: Protocol, device: str, say: Say) -> dict[str, Any]:
    """Measure checkpoints under a protocol; returns the result that `fewshot eval --json` prints.

    Raises CheckpointError for a bad checkpoint, DataError for data that cannot give the episodes, ConfigError for settings.
    """
    where, paths = resolve_device(device), runs_of(paths)
    parts = ("encoder", "projector", *["training"] * any(takes(name, "network") for _, name, _ in protocol.heads))
    checkpoints = [load_checkpoint(path, parts=parts) for path in paths]
    for checkpoint in checkpoints:
        check_features(protocol.features, parse(checkpoint.config, "").projector.paths)
    data = protocol.data or own_data(checkpoints[0])
    source = build_source(data, input_spec(checkpoints[0]))
    if source.labels is None:
        raise DataError(f"{source.name} has no labels, and episodes need classes: give --data with one folder per class")
    tasks = make_tasks(source, protocol.drawing)
    lines: list[Line] = []
    differences: list[Difference] = []
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        label = str(path) if len(paths) > 1 else "pretrained"
        measured = measure(label, from_checkpoint(checkpoint), checkpoint, source, tasks, protocol, where, say)
        lines += summarized(measured)
        differences += head_differences(measured)
    if protocol.compare:
        lines = compared(lines, {str(p): parse(c.config, "") for p, c in zip(paths, checkpoints, strict=True)}, protocol.compare) + lines
    elif len(paths) > 1:
        lines = over_checkpoints(lines) + lines
    if protocol.reference:
        for label, model in zip(REFERENCES, (untrained(checkpoints[0]), None), strict=True):
            lines += summarized(measure(label, model, checkpoints[0], source, tasks, protocol, where, say))
    training = [round(float(c.state.get("cpu_seconds", 0.0)) / 60, 2) for c in checkpoints]
    return {
        "checkpoints": [str(c.path) for c in checkpoints],
        "weights": [weights_hash(c.encoder) for c in checkpoints],
        "pretrained_by": sweep_commands(paths)
        or [training_command(checkpoint, path) for checkpoint, path in zip(checkpoints, paths, strict=True)],
        "seeds": [parse(c.config, "").seed for c in checkpoints],
        "data": {"name": source.name, **data.settings, "classes": len(source.class_names), "images": len(source)},
        "protocol": {
            **protocol.drawing.describe(tasks),
            "interval": RULE if len(paths) == 1 else f"{RULE}; mean row: {SEED_RULE}",
            "support and query": "disjoint, checked",
        },
        "rows": [asdict(line) for line in lines],
        "heads paired": [asdict(difference) for difference in differences],
        "beats_references": beats(lines) if protocol.reference else None,
        "cpu_minutes": {"training of each": training, "evaluation of all": round(time.process_time() / 60, 2)},
        "versions": {"kinshot": kinshot.__version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def build_source(data: Choice, input: Spec) -> Source:
    """The source of a choice, rendered or resized for the encoder's input where the source can and the user did not say.

    Raises DataError for samples that the encoder was not made for.
    """
    settings = dict(data.settings)
    known = SOURCES.entry(data.name).parameters
    wanted = {"size": input.size, "channels": input.channels} if isinstance(input, InputSpec) else {}
    for key, value in wanted.items():
        if key in known and key not in settings:
            settings[key] = value
    source: Source = SOURCES.build(data.name, settings=settings)
    check_source(source, input)
    return source


def training_command(checkpoint: Checkpoint, path: Path) -> str:
    """The command that made a checkpoint: its recipe, its seed, and what it set otherwise (but for the place of the data)."""
    recipe = parse(checkpoint.config, "")
    changed: list[str] = []
    if recipe.name in recipe_names():
        shipped = replace(load_recipe(recipe.name), seed=recipe.seed)
        found = [re.fullmatch(r"(\S+): .* -> (.*)", line) for line in differences(shipped, recipe)]
        changed = [f"{match[1]}={match[2]}" for match in found if match and match[1] != "data.root"]
    return " ".join([train_command(recipe), recipe.name, *changed, f"--seed {recipe.seed} --out {path}"])


def own_data(checkpoint: Checkpoint) -> Choice:
    """The test split of the data that the checkpoint was trained on."""
    own = parse(checkpoint.config, "").data
    settings = dict(own.settings)
    if "split" in settings:
        settings["split"] = "test"
    return Choice(own.name, settings)


def measure(
    label: str,
    model: Embedder | None,
    checkpoint: Checkpoint,
    source: Source,
    tasks: Tasks,
    protocol: Protocol,
    device: torch.device,
    say: Say,
) -> list[Measured]:
    """Accuracy of every head on every feature of one model, or of raw pixels, in every task."""
    measured = []
    for answered in answers(label, model, checkpoint, source, tasks, protocol, device):
        accuracy = 100 * answered.records.accuracy
        measured.append(Measured(label, answered.feature, answered.head, answered.ways, answered.shots, accuracy))
        if (answered.ways, answered.shots) == list(tasks)[-1]:
            say(f"measured {label}, {answered.feature}, {answered.head}")
    return measured


@dataclass(frozen=True)
class Answered:
    """What one head answered on one task, with one feature of one model."""

    feature: str
    head: str
    ways: int
    shots: int
    records: Records


def answers(
    label: str,
    model: Embedder | None,
    checkpoint: Checkpoint,
    source: Source,
    tasks: Tasks,
    protocol: Protocol,
    device: torch.device,
) -> Iterator[Answered]:
    """What every head answers on every task with every feature of a model; heads that have nothing to say about a feature are left out."""
    found = features_of(model, source, device)
    bases = _base_statistics(model, checkpoint, protocol, device)
    heads = trained_heads(checkpoint, model if label not in REFERENCES else None)
    for feature in _features(model, protocol):
        if feature == INPUT and model is not None:
            found[INPUT] = flat_inputs(model, source)
        for text, name, settings in protocol.heads:
            head = heads.build(name, settings, feature, bases.get(feature))
            if head is None:
                continue
            for (ways, shots), episodes in tasks.items():
                yield Answered(feature, text, ways, shots, episode_records(found[feature], episodes, head, ways))


def _features(model: Embedder | None, protocol: Protocol) -> list[str]:
    """The features to measure on, with the samples themselves where a head takes the encoder."""
    if model is None:
        return ["pixels"]
    whole = any(takes(name, "encoder") for _, name, _ in protocol.heads)
    return [*protocol.features, INPUT] if whole else protocol.features


def _base_statistics(model: Embedder | None, checkpoint: Checkpoint, protocol: Protocol, device: torch.device) -> dict[str, BaseStatistics]:
    """Moments of the base classes' features by name, where a head needs them: covariances only for heads that take them."""
    whole = any(takes(name, "base") for _, name, _ in protocol.heads)
    if not whole and not any(settings.get("transform") == "cl2n" for _, _, settings in protocol.heads):
        return {}
    source = build_source(protocol.base or parse(checkpoint.config, "").data, input_spec(checkpoint))
    if source.labels is None and whole:
        raise DataError(f"{source.name} has no labels, and a head needs the base classes: give --base with one folder per class")
    labels = np.zeros(len(source), dtype=np.int64) if source.labels is None else np.asarray(source.labels)
    found = features_of(model, source, device)
    return {name: base_statistics(found[name], labels, covariances=whole) for name in found if name in (*protocol.features, "pixels")}


def features_of(model: Embedder | None, source: Source, device: torch.device) -> dict[str, Tensor]:
    """Features of every image by name: a model's (cached) with `joint`, see `named_features` and `joint_feature`, or the raw pixels."""
    if model is None:
        return {"pixels": torch.cat([raw_features(source.load(part)) for part in torch.arange(len(source)).split(1024)])}
    spec = model.input
    parts = {
        "weights": weights_hash(model.state_dict()),
        "architecture": repr(model),
        "input": repr(spec),
        "source": source.fingerprint(),
        "device": device.type,
    }
    model = model.to(device).to(memory_format=torch.channels_last)
    found = cached_features(parts, lambda: extract(model.embed, source, lambda images: images, device=device))
    return {**found, "joint": joint_feature(found)}
