"""Two results on the same episodes, or on runs of the same seeds: far narrower differences than two intervals side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from kinshot.core.errors import DataError
from kinshot.core.statistics.means import crossed
from kinshot.core.statistics.parts import Estimate

Key = TypeVar("Key", int, str)
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Tally:
    """In how many episodes the one is better, both are equal, and the other is better."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Paired:
    """How two results on the same episodes differ.

    Args:
        difference: a - b, with its interval and its two-sided p-value for this one comparison: not corrected for how many were made.
        tally: episodes in which a is better, both are equal, and b is better.
    """

    difference: Estimate
    tally: Tally

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference. Differences that are all the same have 1 where they are 0, else 0."""
        return self.difference.p


def tally(differences: np.ndarray) -> Tally:
    """Wins, ties and losses of differences (E,), or of their means over checkpoints (C, E), episode by episode."""
    each = np.atleast_2d(differences).mean(axis=0)
    wins, losses = int((each > 0).sum()), int((each < 0).sum())
    return Tally(wins, len(each) - wins - losses, losses)


def paired_test(a: ArrayLike, b: ArrayLike) -> Paired:
    """Difference a - b of two heads or checkpoints, episode by episode; with one checkpoint each that is the paired t-test.

    Args:
        a: one figure an episode, (E,), or (C, E) of several checkpoints, E at least 2.
        b: the same of the other, on the same episodes in the same order.

    Raises:
        DataError: the two differ in shape, fewer than two episodes, or a figure that is not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise DataError(f"a paired difference needs the same episodes twice, got shapes {first.shape} and {second.shape}")
    difference = first - second
    return Paired(crossed(difference), tally(difference))


def paired_by(a: Mapping[Key, A], b: Mapping[Key, B]) -> dict[Key, tuple[A, B]]:
    """What two sides have under the same key, for example the seed, in ascending order; empty where they share none."""
    return {key: (a[key], b[key]) for key in sorted(a.keys() & b.keys())}
