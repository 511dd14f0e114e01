"""Small checkpoints for tests, and a disk that runs full."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kinshot.core.checkpoint import save_checkpoint
from kinshot.core.checkpoint_files import MANIFEST, SMALL

FILES = ("encoder.safetensors", "projector.safetensors", "training.safetensors", *SMALL)
"""What `save` writes beside the manifest."""

DEAD_PID = 2**22 + 1  # beyond the largest pid of Linux


def save(folder: Path, step: int = 3, value: float = 1.0, **changed: Any) -> Path:
    given: dict[str, Any] = {
        "encoder": {"conv.weight": torch.full((2, 3), value), "bn.running_mean": torch.arange(3.0)},
        "projector": {"0.bias": torch.tensor([value])},
        "training": {"optimizer/state.0.step": torch.tensor(float(step)), "method/queue": torch.arange(4)},
        "state": {"step": step, "epoch": 1, "best": {"top1": 0.1 + 0.2, "history": [1, None, True]}},
        "config": {"train": {"lr": 1e-05, "betas": [0.9, 0.999]}, "name": "tést", "text": "1e-4"},
    }
    given |= changed
    parts = {part: given.pop(part) for part in ("encoder", "projector", "training")}
    return save_checkpoint(folder, parts=parts, fsync=False, **given)


def resign(folder: Path) -> None:
    """Make the manifest agree with the files, as somebody who forges a checkpoint would."""
    files = {n: (folder / n).read_bytes() for n in FILES}
    entries = {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()}
    (folder / MANIFEST).write_text(json.dumps({"schema_version": 2, "files": entries}))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full after `size` bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
