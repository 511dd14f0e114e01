"""Sequences of windows that follow one another in a recording: what methods that learn from the order of time compare."""

from __future__ import annotations

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.labels import Clock
from kinshot.datasets.orders import ORDERS

# Times are sums of floats.
_EPS = 1e-6


@ORDERS.register("consecutive", takes="clock")
def consecutive(
    clock: Clock | tuple[np.ndarray, np.ndarray] | None,
    batch_size: int,
    steps: int,
    seed: int,
    *,
    length: int = 4,
    spacing: int = 1,
    gap: float | None = None,
) -> Consecutive:
    """Sequences of consecutive windows of one recording, side by side in the batch, each in the order of time.

    Paper: Liu et al. 2023, arXiv 2310.20071 (FOCAL), whose batches are of sequences of 4

    Every epoch cuts each recording into sequences anew, from an offset of its own, and shuffles them; no sequence reaches into another
    recording. What is left of a recording at either end waits for another epoch. Where one cut of all recordings gives fewer sequences
    than the epoch's batches hold, further cuts follow it.

    Args:
        length: windows of a sequence, at least 2; it divides the batch.
        spacing: a sequence takes every so many-th window of its recording: 1 takes neighbours, 2 leaves one out between any two, so
            that windows that overlap by half do not share anything.
        gap: no sequence reaches across a gap: where the next window of a recording begins more than so many seconds later; none minds.

    Raises:
        ConfigError: no clock, a length that does not divide the batch, or recordings that are all shorter than a sequence.

    >>> seconds, recording = np.array([0.0, 1, 2, 3, 4, 0, 1, 2]), np.repeat([0, 1], [5, 3])
    >>> order = kinshot.orders.consecutive((seconds, recording), batch_size=4, steps=2, seed=0, length=2)
    >>> order(0).view(2, 2, 2).diff().flatten()  # of two batches of two sequences of two
    tensor([1, 1, 1, 1])
    """
    if clock is None:
        raise ConfigError(
            "order consecutive needs to know when samples were taken and in which recording, and the data does not say: choose data with "
            "a clock, such as motion or recordings, or another order"
        )
    return Consecutive(clock[1], clock[0], batch_size, steps, seed, length, spacing, gap)


class Consecutive:
    """epoch -> (steps, B) sample indices, sequence by sequence: (steps, B / length, length) flattened. `notes` says what is left out.

    Args:
        recording: int64 (N,), in which recording each window is; -1 = unknown, which is left out.
        time: (N,), when it begins.
        batch_size: B, windows of a batch.
        steps: batches of an epoch.
        seed: the run's seed.
        length: windows of a sequence.
        spacing: from a window of a sequence to its next, in windows of the recording.
        gap: largest difference in time between neighbouring windows of a sequence's stretch; None for any.

    Raises:
        ConfigError: a length that does not divide the batch, or recordings that are all shorter than a sequence.
    """

    def __init__(
        self,
        recording: np.ndarray,
        time: np.ndarray,
        batch_size: int,
        steps: int,
        seed: int,
        length: int = 4,
        spacing: int = 1,
        gap: float | None = None,
    ) -> None:
        if length < 2 or spacing < 1 or (gap is not None and not gap > 0):
            got = f"{length}, {spacing} and {gap}"
            raise ConfigError(f"order consecutive: expected length of at least 2, spacing of at least 1 and gap above 0, got {got}")
        if batch_size % length or batch_size < length:
            raise ConfigError(
                f"order consecutive: sequences of {length} windows do not fill a batch of {batch_size}: set train.batch_size to a multiple "
                "of the length"
            )
        self.steps, self.seed, self.length, self.sequences = steps, seed, length, batch_size // length
        rows, starts, sizes = _chains(np.asarray(recording), np.asarray(time, dtype=np.float64), spacing, gap)
        long = sizes >= length
        if not long.any():
            most = int(sizes.max(initial=0))
            raise ConfigError(
                f"order consecutive: no recording has {length} windows in a row{f', {spacing} apart' if spacing > 1 else ''}, the most are "
                f"{most}: lower length or spacing, or cut windows at shorter steps"
            )
        self.rows, self.starts, self.sizes = rows, starts[long], sizes[long]
        left, unknown = int(sizes[~long].sum()), len(recording) - len(rows)
        self.notes = [
            *([f"order consecutive: {left} of {len(recording)} windows lie in no sequence of {length}: too few in a row"] if left else []),
            *([f"order consecutive: {unknown} of {len(recording)} windows are of no known recording and left out"] if unknown else []),
        ]

    def __call__(self, epoch: int) -> torch.Tensor:
        """The windows of every batch of an epoch."""
        begins, missing, cut = [], self.steps * self.sequences, 0
        while missing > 0:
            begins.append(self._cut(epoch, cut)[:missing])
            missing, cut = missing - len(begins[-1]), cut + 1
        places = np.concatenate(begins)[:, None] + np.arange(self.length)
        return torch.from_numpy(self.rows[places].reshape(self.steps, self.sequences * self.length))

    def _cut(self, epoch: int, cut: int) -> np.ndarray:
        """Where the sequences of a cut begin, in a shuffled order."""
        rng = keyed_numpy(self.seed, "order of sequences", epoch, cut)
        # as far as one sequence is left; an end that does not fill one comes in when the offset is such that it does
        offsets = rng.integers(0, np.minimum(self.length, self.sizes - self.length + 1))
        counts = (self.sizes - offsets) // self.length
        first = np.repeat(self.starts + offsets, counts)
        place = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        return rng.permutation(first + place * self.length)


def _chains(recording: np.ndarray, time: np.ndarray, spacing: int, gap: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of known recordings, chain by chain, int64 (K,), and where each chain begins and how long it is.

    A chain holds the windows of a recording that are `spacing` apart, in the order of time: a recording has so many of them.
    """
    rows = np.lexsort((time, recording))
    rows = rows[recording[rows] >= 0]
    new = np.diff(recording[rows], prepend=-1) != 0
    if gap is not None:
        new |= np.diff(time[rows], prepend=-np.inf) > gap * (1 + _EPS)
    stretch = np.cumsum(new) - 1
    place = np.arange(len(rows)) - np.flatnonzero(new)[stretch]
    chain = stretch * spacing + place % spacing
    order = np.argsort(chain, kind="stable")
    starts = np.flatnonzero(np.diff(chain[order], prepend=-1))
    return rows[order].astype(np.int64), starts, np.diff(starts, append=len(rows))
