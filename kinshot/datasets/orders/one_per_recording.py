"""As few windows of one recording in a batch as can be: those of one recording are no strangers."""

from __future__ import annotations

from itertools import count

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.labels import Clock
from kinshot.datasets.orders import ORDERS


@ORDERS.register("one_per_recording", takes="clock")
def one_per_recording(clock: Clock | tuple[np.ndarray, np.ndarray] | None, batch_size: int, steps: int, seed: int) -> OnePerRecording:
    """Every window at most once an epoch, and at most one of a recording in a batch; where that cannot be, as few as can, far apart.

    Windows are dealt out, one to each batch in turn, recording by recording in the order of time, from an order of recordings that is
    drawn for each epoch. No recording has more than one window more in a batch than in another, and its windows there lie at least as
    many windows apart as an epoch has batches. Windows that an epoch does not take are those of recordings that have too many, if any do.

    Raises:
        ConfigError: no clock, or an epoch that asks for more samples than there are.

    >>> order = kinshot.orders.one_per_recording((np.arange(12) % 4, np.repeat([0, 1, 2], 4)), batch_size=3, steps=4, seed=0)
    >>> (order(0) // 4).sort().values.tolist()  # the recordings of each batch
    [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    """
    if clock is None:
        raise ConfigError(
            "order one_per_recording needs to know in which recording samples were taken, and the data does not say: choose data with a "
            "clock, such as motion or recordings, or another order"
        )
    return OnePerRecording(clock[1], clock[0], batch_size, steps, seed)


class OnePerRecording:
    """epoch -> (steps, B) sample indices. `notes` says where batches cannot be without two windows of a recording.

    Args:
        recording: int64 (N,), in which recording each window is; those of unknown recording (-1) count as one.
        time: (N,), when it begins.
        batch_size: B, windows of a batch.
        steps: batches of an epoch.
        seed: the run's seed.

    Raises:
        ConfigError: an epoch that asks for more samples than there are.
    """

    def __init__(self, recording: np.ndarray, time: np.ndarray, batch_size: int, steps: int, seed: int) -> None:
        if not 1 <= steps * batch_size <= len(recording):
            asked = f"{steps} batches of {batch_size}"
            raise ConfigError(
                f"order one_per_recording: expected 1 to {len(recording)} samples an epoch, got {asked}: lower train.batch_size"
            )
        self.batch_size, self.steps, self.seed = batch_size, steps, seed
        self.rows = np.lexsort((np.asarray(time), np.asarray(recording))).astype(np.int64)
        _, self.recording, sizes = np.unique(np.asarray(recording)[self.rows], return_inverse=True, return_counts=True)
        self.most = next(most for most in count(1) if np.minimum(sizes, most * steps).sum() >= steps * batch_size)
        said = f"order one_per_recording: batches of {batch_size} hold up to {self.most} windows of a recording, which are {len(sizes)}"
        self.notes = [said] if self.most > 1 else []

    def __call__(self, epoch: int) -> torch.Tensor:
        """The windows of every batch of an epoch."""
        rng = keyed_numpy(self.seed, "order by recordings", epoch)
        drawn = rng.permutation(len(self.rows))
        drawn = drawn[_nth(self.recording[drawn]) < self.most * self.steps]
        kept = np.sort(drawn[: self.steps * self.batch_size])
        turn = rng.permutation(int(self.recording[-1]) + 1)[self.recording[kept]]
        dealt = self.rows[kept[np.argsort(turn, kind="stable")]].reshape(self.batch_size, self.steps).T
        return torch.from_numpy(dealt[rng.permutation(self.steps)])


def _nth(groups: np.ndarray) -> np.ndarray:
    """How many of the same group, int64 (N,), stand before each."""
    order = np.argsort(groups, kind="stable")
    places = np.arange(len(groups))
    first = np.maximum.accumulate(np.where(np.diff(groups[order], prepend=-1) != 0, places, 0))
    found = np.empty_like(places)
    found[order] = places - first
    return found
