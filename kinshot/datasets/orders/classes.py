"""A few classes in every batch, with several samples of each: what metric learning compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.orders import ORDERS
from kinshot.datasets.orders.members import several


@ORDERS.register("classes")
def classes(
    labels: np.ndarray, batch_size: int, steps: int, seed: int, *, per_class: int = 4, repeat: bool = False
) -> Callable[[int], torch.Tensor]:
    """P classes drawn for each batch, K samples of each, side by side in it; samples without a label are left out.

    Paper: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017, arXiv 1703.07737 (PK batches)

    Classes are drawn evenly, whatever their size, and without replacement within a batch; so are the samples of a class. Batches are drawn
    on their own: an epoch says how often draws are made, not that every sample occurs.

    Args:
        per_class: K, samples of each class in a batch, at least 2; the batch holds batch_size / K classes.
        repeat: also draw classes of fewer than K samples, and some of their samples twice; without it they are left out.

    Raises:
        ConfigError: K that does not divide the batch, or fewer classes than a batch holds.

    >>> labels = np.repeat(np.arange(5), 6)
    >>> order = kinshot.orders.classes(labels, batch_size=6, steps=3, seed=0, per_class=3)
    >>> np.unique(labels[order(0)[0]], return_counts=True)[1].tolist()
    [3, 3]
    """
    if per_class < 2 or batch_size % per_class or batch_size < 2 * per_class:
        raise ConfigError(
            f"order classes: expected per_class of at least 2 that divides the batch in two classes or more, got {per_class} for "
            f"batches of {batch_size}: change train.batch_size or per_class"
        )
    found = [np.flatnonzero(labels == label) for label in np.unique(labels) if label >= 0]
    large = [rows for rows in found if repeat or len(rows) >= per_class]
    if len(large) < batch_size // per_class:
        left_out = f", {len(found) - len(large)} more have fewer than {per_class} samples" if len(large) < len(found) else ""
        remedy = "set repeat=true, or lower per_class or train.batch_size" if left_out else "lower train.batch_size or raise per_class"
        raise ConfigError(
            f"order classes: batches of {batch_size} with {per_class} of a class need {batch_size // per_class} classes, "
            f"the data has {len(large)}{left_out}: {remedy}"
        )
    return ClassOrder(tuple(large), batch_size // per_class, per_class, steps, seed)


@dataclass(frozen=True)
class ClassOrder:
    """epoch -> (steps, P * K) sample indices, class by class.

    Args:
        members: the samples of each class.
        ways: P, classes of a batch.
        per_class: K, samples of each.
        steps: batches of an epoch.
        seed: the run's seed.
    """

    members: tuple[np.ndarray, ...]
    ways: int
    per_class: int
    steps: int
    seed: int

    def __call__(self, epoch: int) -> torch.Tensor:
        """The samples of every batch of an epoch."""
        rng = keyed_numpy(self.seed, "order of classes", epoch)
        rows = np.empty((self.steps, self.ways, self.per_class), dtype=np.int64)
        for step in range(self.steps):
            for way, chosen in enumerate(rng.choice(len(self.members), self.ways, replace=False)):
                rows[step, way] = several(self.members[chosen], self.per_class, rng)
        return torch.from_numpy(rows).flatten(1)
