"""The answers behind the details of a report: every head on one task, with one feature of one checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from kinshot.core.checkpoint import Checkpoint
from kinshot.core.errors import ConfigError
from kinshot.datasets.base import Source
from kinshot.fewshot.evaluate import takes
from kinshot.fewshot.records import Records
from kinshot.runs.embedder import from_checkpoint, input_spec
from kinshot.studies.answers import Protocol, answers
from kinshot.studies.fields import Field, Fields, shared_data
from kinshot.studies.report.fitting import check_shots, fitted
from kinshot.studies.tasks import Drawing


def field_of(checkpoints: Sequence[Checkpoint], protocol: Protocol, free: Collection[str] = ()) -> tuple[Field, Drawing, list[str]]:
    """The source as the first checkpoint sees it, and the episodes that all of them share; how they were drawn, and what the data decided.

    `free` names what of the drawing may follow the data (`fitting.fitted`).

    Raises:
        DataError: no labels, too few classes, or shot counts that the classes are too small for, with the counts.
    """
    decided: list[str] = []

    def fit(source: Source, wanted: Drawing) -> Drawing:
        labels = np.asarray(source.labels)
        drawing, said = fitted(wanted, labels, free)
        decided.extend(said)
        check_shots(labels, source.class_names, source.name, drawing)
        return drawing

    inputs = [input_spec(checkpoint) for checkpoint in checkpoints]
    fields = Fields(protocol.data or shared_data(checkpoints), inputs, protocol.drawing, fit)
    return fields.of(inputs[0]), fields.drawing, decided


def focus_records(field: Field, checkpoint: Checkpoint, protocol: Protocol, device: torch.device) -> tuple[str, dict[str, Records]]:
    """The feature of the details, and the answers of every head that works on it, by its text, on the first task of a protocol.

    The feature is the first that some head works on: heads with trained parts know a feature of their own.

    Args:
        field: source and episodes.
        checkpoint: with the parts `parts_for(protocol)`.
        protocol: what is measured.
        device: where features are computed.

    Raises:
        ConfigError: no head works on any of the features.
    """
    task, episodes = next(iter(field.tasks.items()))
    found: dict[str, dict[str, Records]] = {}
    model = from_checkpoint(checkpoint)
    for answered in answers("", model, checkpoint, field.source, {task: episodes}, protocol, device):
        found.setdefault(answered.feature, {})[answered.head] = answered.records[0]
    if found:
        return next(iter(found.items()))
    raise ConfigError(f"no head works on the features {', '.join(protocol.features)}: add backbone, which all but a few know")


def parts_for(protocol: Protocol) -> tuple[str, ...]:
    """What is needed of a checkpoint: more where a head has a trained network."""
    return ("encoder", "projector", *["training"] * any(takes(name, "network") for _, name, _ in protocol.heads))
