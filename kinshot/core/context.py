"""What a part of a run may know of the run that it is built for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class RunContext:
    """What a method, or a term with state, may know of the run that it is built for.

    Args:
        num_samples: N, rows of the training source; sample indices are 0..N-1.
        batch_size: samples in every step (the last partial batch is dropped).
        steps_per_epoch: steps in one epoch.
        total_steps: steps in the whole run.
        seed: the run's seed, for `kinshot.core.rng`.
        labels: class of every sample, int64 (N,), 0..C-1, for a method that is `supervised`; None for all others.
        contains: which classes the class map of every sample holds, bool (N, C), for a method that learns from class maps, else None.
        photos: the photograph that every sample is of, int64 (N,), where `contains` is.
        clock: when every sample was taken, float64 (N,), and in which recording, int64 (N,), where the data says so, else None.

    >>> kinshot.RunContext(num_samples=100, batch_size=32, steps_per_epoch=3, total_steps=30, seed=0)
    RunContext(num_samples=100, batch_size=32, steps_per_epoch=3, total_steps=30, seed=0, labels=None, contains=None, photos=None,
    clock=None)
    """

    num_samples: int
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    seed: int
    labels: Tensor | None = None
    contains: np.ndarray | None = None
    photos: np.ndarray | None = None
    clock: tuple[np.ndarray, np.ndarray] | None = None
