"""The samples that a run began with: kept in its checkpoints, found again in what the data holds when it goes on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.checkpoint import Checkpoint
from kinshot.core.errors import DataError, ResourceError
from kinshot.datasets.base import Source
from kinshot.datasets.stand_ins import StandIns, as_begun, sample_keys

_KEYS, _LABELS = "keys", "labels"


def recorded(source: Source) -> dict[str, Tensor]:
    """What a checkpoint keeps of its run's samples: what each is, uint8 (N, 16), and its label, int64 (N,), -1 without any."""
    labels = np.full(len(source), -1, dtype=np.int64) if source.labels is None else source.labels
    return {_KEYS: torch.from_numpy(sample_keys(source).copy()), _LABELS: torch.from_numpy(np.array(labels))}


def begun_with(source: Source, checkpoint: Checkpoint) -> Source:
    """The source as a checkpoint's run began with it: itself, or with stand-ins where little is gone; itself too where it is another."""
    fingerprint = str(checkpoint.state.get("source"))
    keys, labels = (checkpoint.training.get(f"data/{name}") for name in (_KEYS, _LABELS))
    if source.known_as(fingerprint) or keys is None or labels is None:
        return source
    if keys.dtype != torch.uint8 or keys.ndim != 2 or keys.shape[1] != 16 or labels.shape != keys.shape[:1]:
        return source
    return as_begun(source, keys.numpy(), labels.numpy(), fingerprint) or source


def stand_in_notes(source: Source) -> list[str]:
    """What is to be said of samples that others stand in for."""
    return [source.note()] if isinstance(source, StandIns) else []


def stand_in_count(source: Source) -> dict[str, int]:
    """How many samples others stood in for, for the result of a run; empty for none."""
    return {"stand_ins": len(source.gone)} if isinstance(source, StandIns) else {}


def ways_on(error: DataError, source: Source, step: int) -> DataError:
    """The error that ended a run at `step`, with what its user can do."""
    if isinstance(error, ResourceError) or source.in_memory:
        return error
    return DataError(
        f"{error}\nthe run has stopped in step {step + 1} and keeps its last checkpoint: put the file back as it was, or remove it, and go "
        "on with --resume auto, where another of its class stands in; `ssl check` lists all files that cannot be read, and "
        "data.unreadable=leave_out does without them"
    )
