"""The answers behind the details of a report: every head on one task, with one feature of one checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kinshot.core.checkpoint import Checkpoint
from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.fewshot.evaluate import takes
from kinshot.fewshot.records import Records
from kinshot.recipes.answers import Protocol, answers
from kinshot.recipes.embedder import from_checkpoint, input_spec
from kinshot.recipes.fields import Field, Fields, shared_data
from kinshot.recipes.tasks import Drawing


def field_of(checkpoints: Sequence[Checkpoint], protocol: Protocol) -> Field:
    """The source as the first checkpoint sees it, and the episodes that all of them share.

    Raises:
        DataError: no labels, too few classes, or shot counts that the classes are too small for, with the counts.
    """
    inputs = [input_spec(checkpoint) for checkpoint in checkpoints]
    fields = Fields(protocol.data or shared_data(checkpoints), inputs, protocol.drawing, check=_shots_fit)
    return fields.of(inputs[0])


def _shots_fit(source: Source, drawing: Drawing) -> None:
    check_shots(np.asarray(source.labels), source.class_names, source.name, drawing)


def check_shots(labels: np.ndarray, names: list[str], where: str, drawing: Drawing) -> None:
    """Raise DataError where a class has too few images for some of the shot counts, naming those and the ones that fit.

    Raises ConfigError for a range of them: a curve over shots needs numbers.
    """
    if any(isinstance(size, tuple) for size in (*drawing.ways, *drawing.shots)):
        raise ConfigError("a report needs numbers of ways and of shots, got a range: give --ways 5 --shots 1,5, or use fewshot eval")
    shots = [size for size in drawing.shots if isinstance(size, int)]
    classes, counts = np.unique(labels, return_counts=True)
    most = int(counts.min()) - drawing.queries if len(counts) else 0
    short = [k for k in shots if k > most]
    if drawing.list or not len(counts) or not short:
        return
    smallest = names[int(classes[counts.argmin()])]
    needed = ", ".join(f"{k} + {drawing.queries} = {k + drawing.queries}" for k in short)
    fitting = ",".join(str(k) for k in shots if k <= most)
    advice = f"--shots {fitting}" if fitting else f"fewer than --queries {drawing.queries}"
    raise DataError(
        f"{where}: the smallest class {smallest!r} has {counts.min()} images, and an episode takes shots + queries of a class: "
        f"{needed} are too many; use {advice}{', or fewer queries' if fitting else ''}, or leave small classes out of the split"
    )


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
