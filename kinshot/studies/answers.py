"""What heads answer on the episodes of a source, with every feature of a model: features once, cached by content, then episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.core.progress import Work
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.bundle import as_taken
from kinshot.fewshot.base_statistics import BaseStatistics, base_statistics
from kinshot.fewshot.evaluate import takes
from kinshot.fewshot.groups import grouped
from kinshot.fewshot.records import Records, group_records
from kinshot.learn.features import cached_features, extract, joint_feature, weights_hash
from kinshot.learn.model import Model
from kinshot.recipes.backbones import known_data
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Choice
from kinshot.recipes.specs import Task
from kinshot.runs.embedder import input_spec
from kinshot.runs.trained_heads import INPUT, flat_inputs, trained_heads
from kinshot.samples.spec import Spec
from kinshot.studies.summaries import RAW, Measured, is_reference
from kinshot.studies.tasks import Drawing, Tasks

Say = Callable[[str], None]


@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Args:
        data: evaluation source; settings that were not given are filled from the checkpoint's input.
        base: source of the base classes, for heads that know them; none takes the checkpoint's training data.
        drawing: the episodes.
        heads: (text, name, settings) of each head.
        features: some of backbone, projector and joint; none for all of them that every model gives.
        reference: measure raw pixels and the untrained encoder too.
        compare: a setting, or several with commas, by which checkpoints are grouped and compared, paired by seed; empty for none.
        only: pairs of a head's text and a feature that alone are measured on encoders; empty for all of them.
        per_episode: keep the accuracy of every episode in the result, too.
        interval: what intervals are over beside checkpoints: "episodes", or "classes" for those and the classes of the pool.
    """

    data: Choice | None
    base: Choice | None
    drawing: Drawing
    heads: list[tuple[str, str, dict[str, Any]]]
    features: list[str]
    reference: bool = True
    compare: str = ""
    interval: str = "episodes"
    only: frozenset[tuple[str, str]] = frozenset()
    per_episode: bool = False

    def wants(self, head: str, feature: str) -> bool:
        """Whether a head is measured on a feature; raw pixels are met by every head."""
        return not self.only or feature in RAW.values() or (head, feature) in self.only


def build_source(data: Choice, input: Spec) -> Source:
    """The source of a choice, rendered or resized for the encoder's input where the source can and the user did not say.

    Raises DataError for samples that the encoder was not made for.
    """
    settings = dict(known_data(data).settings)
    known = SOURCES.entry(data.name).parameters
    for key, value in input.rendering.items():
        if key in known and key not in settings:
            settings[key] = value
    source = as_taken(SOURCES.build(data.name, settings=settings), input)
    input.check_source(source)
    return source


def measure(
    label: str,
    model: Model | None,
    run: Loaded,
    source: Source,
    tasks: Tasks,
    protocol: Protocol,
    device: torch.device,
    say: Say,
) -> list[Measured]:
    """Accuracy of every head on every feature of one model, or of raw pixels, in every task."""
    measured = []
    work = Work(len(_features(model, protocol, source)) * len(protocol.heads) * len(tasks), say, f"measuring {label}")
    for answered in answers(label, model, run, source, tasks, protocol, device):
        accuracy = grouped(tasks[answered.task]).in_order([100 * records.accuracy for records in answered.records])
        measured.append(Measured(label, answered.feature, answered.head, *answered.task, accuracy))
        work.step()
        if answered.task == list(tasks)[-1]:
            say(f"measured {label}, {answered.feature}, {answered.head}")
    return measured


@dataclass(frozen=True)
class Answered:
    """What one head answered on one task (ways, shots), with one feature of one model: for each group of its episodes."""

    feature: str
    head: str
    task: Task
    records: list[Records]


def answers(
    label: str,
    model: Model | None,
    run: Loaded,
    source: Source,
    tasks: Tasks,
    protocol: Protocol,
    device: torch.device,
) -> Iterator[Answered]:
    """What every head answers on every task with every feature of a model; heads that have nothing to say about a feature are left out."""
    found = features_of(model, source, device)
    bases = _base_statistics(model, run, protocol, device)
    heads = trained_heads(run, None if is_reference(label) else model)
    for feature in _features(model, protocol, source):
        if feature == INPUT and model is not None:
            found[INPUT] = flat_inputs(model, source)
        for text, name, settings in protocol.heads:
            head = heads.build(name, settings, feature, bases.get(feature)) if protocol.wants(text, feature) else None
            if head is None:
                continue
            for task, episodes in tasks.items():
                yield Answered(feature, text, task, group_records(found[feature], grouped(episodes), head))


def _features(model: Model | None, protocol: Protocol, source: Source) -> list[str]:
    """The features to measure on, with the samples themselves where a head takes the encoder."""
    if model is None:
        return [source.spec.raw_feature]
    whole = any(takes(name, "encoder") for _, name, _ in protocol.heads)
    return [*protocol.features, INPUT] if whole else protocol.features


def _base_statistics(model: Model | None, run: Loaded, protocol: Protocol, device: torch.device) -> dict[str, BaseStatistics]:
    """Moments of the base classes' features by name, where a head needs them: covariances only for heads that take them."""
    whole = any(takes(name, "base") for _, name, _ in protocol.heads)
    if not whole and not any(settings.get("transform") == "cl2n" for _, _, settings in protocol.heads):
        return {}
    source = build_source(protocol.base or run.recipe.data, input_spec(run.checkpoint))
    if source.labels is None and whole:
        raise DataError(f"{source.name} has no labels, and a head needs the base classes: give --base with one folder per class")
    labels = np.zeros(len(source), dtype=np.int64) if source.labels is None else np.asarray(source.labels)
    found = features_of(model, source, device)
    return {name: base_statistics(found[name], labels, covariances=whole) for name in found if name in (*protocol.features, *RAW.values())}


def features_of(model: Model | None, source: Source, device: torch.device) -> dict[str, Tensor]:
    """Features of every image by name: a model's (cached) with `joint`, see `Model.features` and `joint_feature`, or the raw samples."""
    if model is None:
        raw = source.spec.raw
        return {source.spec.raw_feature: torch.cat([raw(source.load(part)) for part in torch.arange(len(source)).split(1024)])}
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
    return {**found, "joint": joint_feature(found)} if "projector" in found else found
