"""Every sample at most once an epoch, with a few members of its class beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.orders import ORDERS


@ORDERS.register("together")
def together(labels: np.ndarray, batch_size: int, steps: int, seed: int, *, per_class: int = 4) -> Together:
    """A permutation of all samples in which members of a class stand side by side, K of them; each class is divided anew in each epoch.

    What is left of a class stands by fewer, a sample without a label alone, and what does not fill a batch waits for another epoch. Where
    a batch ends, so does a group. Unlike `classes` it leaves no class out and shows no sample twice.

    Args:
        per_class: K, most members of a class side by side, at least 2.

    Raises:
        ConfigError: K below 2, or an epoch that asks for more samples than there are.

    >>> order = kinshot.orders.together(np.array([0, 0, 0, 1, 1, 1, 1, -1]), batch_size=4, steps=2, seed=0, per_class=2)
    >>> sorted(order(0).flatten().tolist())
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    if per_class < 2:
        raise ConfigError(f"order together: expected per_class of at least 2, got {per_class}: order shuffled keeps no class together")
    if not 1 <= steps * batch_size <= len(labels):
        raise ConfigError(
            f"order together: expected 1 to {len(labels)} samples an epoch, got {steps} batches of {batch_size}: lower train.batch_size"
        )
    return Together(labels, batch_size, steps, seed, per_class)


@dataclass(frozen=True)
class Together:
    """epoch -> (steps, B) sample indices, groups of one class side by side.

    Args:
        labels: class of each sample, int64 (N,), -1 for none.
        batch_size: B.
        steps: batches of an epoch.
        seed: the run's seed.
        per_class: K, most members of a group.
    """

    labels: np.ndarray
    batch_size: int
    steps: int
    seed: int
    per_class: int

    def __call__(self, epoch: int) -> torch.Tensor:
        """The samples of every batch of an epoch."""
        count, rng = len(self.labels), keyed_numpy(self.seed, "order of samples together", epoch)
        alone = int(self.labels.max(initial=0)) + 1 + np.arange(count)
        rows = rng.permutation(count)
        classes = np.where(self.labels < 0, alone, self.labels)[rows]
        by_class = np.argsort(classes, kind="stable")
        rows, classes = rows[by_class], classes[by_class]
        begins = np.r_[True, classes[1:] != classes[:-1]]
        place = np.arange(count) - np.maximum.accumulate(np.where(begins, np.arange(count), 0))  # of a sample in its class
        group = np.cumsum(place % self.per_class == 0) - 1
        shuffled = rows[np.argsort(rng.permutation(group[-1] + 1)[group], kind="stable")]
        return torch.from_numpy(shuffled[: self.steps * self.batch_size].reshape(self.steps, self.batch_size))
