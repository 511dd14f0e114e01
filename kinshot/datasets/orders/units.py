"""Batches of units, each a few samples of one class, by which an epoch passes over all samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.orders import ORDERS
from kinshot.datasets.orders.members import groups_of


@ORDERS.register("units")
def units(labels: np.ndarray, batch_size: int, steps: int, seed: int, *, length: int = 2) -> UnitOrder:
    """Units of two samples of one class, side by side in the batch: every sample has kin there, and comes at most once in a pass.

    Paper: Ai, Wang, Tan, Tan 2022, arXiv 2209.11887 (Contra-X), whose batches are of units of 2

    Every epoch puts the samples of each class together anew and shuffles the units; a class may have several in a batch. What is left of a
    class whose size is no multiple of the length waits for another epoch. Where one pass gives fewer units than the epoch's batches hold,
    further passes follow it. Unlike order `classes`, which draws classes evenly, large classes come as often as they are large.

    Args:
        length: samples of a unit, at least 2; it divides the batch.

    Raises:
        ConfigError: a length that does not divide the batch in two units or more, or fewer than two classes with so many samples.

    >>> labels = np.repeat(np.arange(3), 4)
    >>> order = kinshot.orders.units(labels, batch_size=6, steps=2, seed=0)
    >>> np.diff(labels[order(0)].reshape(-1, 2)).ravel().tolist()  # within each unit
    [0, 0, 0, 0, 0, 0]
    """
    if length < 2 or batch_size % length or batch_size < 2 * length:
        raise ConfigError(
            f"order units: expected a length of at least 2 that divides the batch in two units or more, got {length} for batches of "
            f"{batch_size}: change train.batch_size or length"
        )
    found = list(groups_of(np.asarray(labels)).values())
    large = [rows for rows in found if len(rows) >= length]
    if len(large) < 2:
        raise ConfigError(
            f"order units: units of {length} samples of one class, of two classes or more, need two classes of that size, the data has "
            f"{len(large)} of {len(found)}: lower length, or choose data with more classes"
        )
    left, known = sum(map(len, found)) - sum(map(len, large)), sum(map(len, found))
    note = f"order units: {left} of {known} samples are left out, of classes of fewer than {length}"
    return UnitOrder(
        np.concatenate(large), np.array([len(rows) for rows in large]), batch_size, steps, seed, length, (note,) if left else ()
    )


@dataclass(frozen=True)
class UnitOrder:
    """epoch -> (steps, B) sample indices, unit by unit: (steps, B / length, length) flattened.

    Args:
        rows: the samples, class by class.
        sizes: of the classes.
        batch_size: B.
        steps: batches of an epoch.
        seed: the run's seed.
        length: samples of a unit.
        notes: what is left out.
    """

    rows: np.ndarray
    sizes: np.ndarray
    batch_size: int
    steps: int
    seed: int
    length: int
    notes: tuple[str, ...] = ()

    def __call__(self, epoch: int) -> torch.Tensor:
        """The samples of every batch of an epoch."""
        passes: list[np.ndarray] = []
        missing = self.steps * self.batch_size // self.length
        while missing > 0:
            passes.append(self._passed(epoch, len(passes))[:missing])
            missing -= len(passes[-1])
        return torch.from_numpy(np.concatenate(passes).reshape(self.steps, self.batch_size))

    def _passed(self, epoch: int, number: int) -> np.ndarray:
        """The units of one pass over all samples, shuffled: int64 (U, length)."""
        rng = keyed_numpy(self.seed, "order of units", epoch, number)
        of_class = np.repeat(np.arange(len(self.sizes)), self.sizes)
        mixed = self.rows[np.lexsort((rng.random(len(self.rows)), of_class))]
        place = np.arange(len(mixed)) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)
        whole = mixed[place < (self.sizes // self.length * self.length)[of_class]]
        return rng.permutation(whole.reshape(-1, self.length))
