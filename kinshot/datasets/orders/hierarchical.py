"""A few coarse classes in every batch, several classes of each: strangers that are hard to tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.labels import Marks
from kinshot.datasets.orders import ORDERS
from kinshot.datasets.orders.members import groups_of, several


@ORDERS.register("hierarchical", takes="attributes")
def hierarchical(
    marks: Marks | tuple[np.ndarray, Mapping[str, np.ndarray]],
    batch_size: int,
    steps: int,
    seed: int,
    *,
    attribute: str,
    coarse: int = 2,
    per_class: int = 4,
    repeat: bool = False,
) -> HierarchicalOrder:
    """P classes of a few coarse classes drawn for each batch, K samples of each, side by side in it, coarse class by coarse class.

    Paper: Liao, Tsiligkaridis, Kulis 2023, arXiv 2210.01908, which samples so

    Coarse classes are drawn evenly, whatever their size, then classes of each evenly, all without replacement within a batch; so are the
    samples of a class. Batches are drawn on their own, as those of order `classes` are. Left out are samples without a class or a coarse
    class, classes of too few samples, and coarse classes of too few classes, which is said.

    Args:
        attribute: of the data, that says the coarse class of each sample.
        coarse: coarse classes of a batch.
        per_class: K, samples of each class in a batch, at least 2; the batch holds batch_size / coarse / K classes of each coarse class.
        repeat: also draw classes of fewer than K samples, and some of their samples twice; without it they are left out.

    Raises:
        ConfigError: an attribute that the data does not have, a batch that cannot be divided so, a class in two coarse classes, or too few
            of them.

    >>> labels = np.repeat(np.arange(6), 4)
    >>> marks = labels, {"coarse": labels // 2}
    >>> order = kinshot.orders.hierarchical(marks, batch_size=8, steps=3, seed=0, attribute="coarse", per_class=2)
    >>> np.unique(labels[order(0)[0]] // 2, return_counts=True)[1].tolist()
    [4, 4]
    """
    known = Marks(*marks)
    values = known.column(attribute, "order hierarchical")
    if coarse < 1 or per_class < 2 or batch_size % (coarse * per_class) or batch_size == per_class:
        raise ConfigError(
            f"order hierarchical: expected coarse of at least 1 and per_class of at least 2 whose product divides the batch, two classes "
            f"or more, got {coarse} and {per_class} for batches of {batch_size}: change train.batch_size, coarse or per_class"
        )
    labels = np.where(values >= 0, known.labels, -1)
    found = groups_of(labels)
    if torn := [label for label, rows in found.items() if len(np.unique(values[rows])) > 1]:
        raise ConfigError(
            f"order hierarchical: {attribute!r} is no coarse class, as {len(torn)} of {len(found)} classes have several of its values "
            f"(the first is {torn[0]}): choose an attribute with one value to a class, or order balanced"
        )
    large = {label: rows for label, rows in found.items() if repeat or len(rows) >= per_class}
    ways = batch_size // coarse // per_class
    members = {
        value: [large[label] for label in np.unique(labels[rows]).tolist() if label in large] for value, rows in groups_of(values).items()
    }
    wide = [tuple(rows) for rows in members.values() if len(rows) >= ways]
    if len(wide) < coarse:
        raise ConfigError(
            f"order hierarchical: batches of {batch_size} need {coarse} values of {attribute!r} with {ways} classes of {per_class} samples "
            f"each, the data has {len(wide)}, of {len(members)} values: lower coarse, train.batch_size or per_class, or set repeat=true"
        )
    left = len(found) - sum(map(len, wide))
    note = f"order hierarchical: {left} of {len(found)} classes are left out: too few samples, or too few classes of one {attribute}"
    return HierarchicalOrder(tuple(wide), coarse, ways, per_class, steps, seed, (note,) if left else ())


@dataclass(frozen=True)
class HierarchicalOrder:
    """epoch -> (steps, C * P * K) sample indices, coarse class by coarse class, class by class.

    Args:
        members: for each coarse class the samples of each of its classes.
        coarse: C, coarse classes of a batch.
        ways: P, classes of each.
        per_class: K, samples of each class.
        steps: batches of an epoch.
        seed: the run's seed.
        notes: what is left out.
    """

    members: tuple[tuple[np.ndarray, ...], ...]
    coarse: int
    ways: int
    per_class: int
    steps: int
    seed: int
    notes: tuple[str, ...] = ()

    def __call__(self, epoch: int) -> torch.Tensor:
        """The samples of every batch of an epoch."""
        rng = keyed_numpy(self.seed, "order of coarse classes", epoch)
        rows = np.empty((self.steps, self.coarse, self.ways, self.per_class), dtype=np.int64)
        for step in range(self.steps):
            for group, value in enumerate(rng.choice(len(self.members), self.coarse, replace=False)):
                classes = self.members[value]
                for way, chosen in enumerate(rng.choice(len(classes), self.ways, replace=False)):
                    rows[step, group, way] = several(classes[chosen], self.per_class, rng)
        return torch.from_numpy(rows).flatten(1)
