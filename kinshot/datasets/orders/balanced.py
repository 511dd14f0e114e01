"""A few classes in every batch, with as many samples of each from several cameras, modalities or the like."""

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


@ORDERS.register("balanced", takes="attributes")
def balanced(
    marks: Marks | tuple[np.ndarray, Mapping[str, np.ndarray]],
    batch_size: int,
    steps: int,
    seed: int,
    *,
    attribute: str,
    values: int = 2,
    per_class: int = 4,
    repeat: bool = False,
) -> BalancedOrder:
    """P classes drawn for each batch, K samples of each, shared evenly by a few values of an attribute, such as camera or modality.

    Paper: as many of either modality as in the batches of MATHM; P x K as in Hermans, Beyer, Leibe 2017, arXiv 1703.07737

    Classes are drawn evenly and without replacement within a batch, then values of the class, then samples of each value; side by side
    in the batch, class by class and value by value. Left out are samples without a class or a value, and, which is said, classes that
    do not have so many values with K / values samples each.

    Args:
        attribute: of the data, whose values share a class's samples.
        values: different values among a class's samples in a batch, at least 2; two modalities, or as many cameras as K.
        per_class: K, samples of each class in a batch, a multiple of values; the batch holds batch_size / K classes.
        repeat: also draw values of a class with fewer samples than that, and some of these twice.

    Raises:
        ConfigError: an attribute that the data does not have, a batch that cannot be divided so, or too few classes for it.

    >>> labels, camera = np.repeat(np.arange(5), 6), np.tile([0, 0, 1, 1, 1, 1], 5)
    >>> order = kinshot.orders.balanced((labels, {"camera": camera}), batch_size=8, steps=3, seed=0, attribute="camera")
    >>> np.bincount(camera[order(0)[0]]).tolist()
    [4, 4]
    """
    known = Marks(*marks)
    column = known.column(attribute, "order balanced")
    if values < 2 or per_class % values or batch_size % per_class or batch_size < 2 * per_class:
        raise ConfigError(
            f"order balanced: expected values of at least 2 that divide per_class, which divides the batch in two classes or more, got "
            f"{values} and {per_class} for batches of {batch_size}: change train.batch_size, per_class or values"
        )
    each, ways = per_class // values, batch_size // per_class
    found = groups_of(np.where(column >= 0, known.labels, -1))
    parts = [[rows[column[rows] == value] for value in np.unique(column[rows])] for rows in found.values()]
    large = [[rows for rows in of_class if repeat or len(rows) >= each] for of_class in parts]
    wide = [tuple(of_class) for of_class in large if len(of_class) >= values]
    if len(wide) < ways:
        raise ConfigError(
            f"order balanced: batches of {batch_size} with {per_class} of a class need {ways} classes that have {values} values of "
            f"{attribute!r} with {each} samples each, the data has {len(wide)} of {len(found)}: lower train.batch_size, per_class or values"
            f"{'' if repeat else ', or set repeat=true'}"
        )
    left = len(found) - len(wide)
    note = (
        f"order balanced: {left} of {len(found)} classes are left out: fewer than {values} values of {attribute!r} with {each} samples each"
    )
    return BalancedOrder(tuple(wide), ways, values, each, steps, seed, (note,) if left else ())


@dataclass(frozen=True)
class BalancedOrder:
    """epoch -> (steps, P * V * K / V) sample indices, class by class, value by value.

    Args:
        members: for each class the samples of each value of the attribute.
        ways: P, classes of a batch.
        values: V, values of each class in a batch.
        each: samples of each of them.
        steps: batches of an epoch.
        seed: the run's seed.
        notes: what is left out.
    """

    members: tuple[tuple[np.ndarray, ...], ...]
    ways: int
    values: int
    each: int
    steps: int
    seed: int
    notes: tuple[str, ...] = ()

    def __call__(self, epoch: int) -> torch.Tensor:
        """The samples of every batch of an epoch."""
        rng = keyed_numpy(self.seed, "order of balanced classes", epoch)
        rows = np.empty((self.steps, self.ways, self.values, self.each), dtype=np.int64)
        for step in range(self.steps):
            for way, chosen in enumerate(rng.choice(len(self.members), self.ways, replace=False)):
                of_class = self.members[chosen]
                for place, value in enumerate(rng.choice(len(of_class), self.values, replace=False)):
                    rows[step, way, place] = several(of_class[value], self.each, rng)
        return torch.from_numpy(rows).flatten(1)
