"""What per-episode accuracies say: a mean, how far to trust it, and whether two results differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinshot.core.errors import DataError

RULE = "Student t, 95 %, over episodes"
PAIRED_RULE = "paired Student t, two-sided, over the same episodes"


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval [mean - half_width, mean + half_width] over `count` episodes, by `rule`."""

    mean: float
    half_width: float
    count: int
    rule: str = RULE

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half_width


def interval(values: np.ndarray) -> Interval:
    """Mean and 95 % half-width t(n-1) * s / sqrt(n), s with ddof 1.

    Args:
        values: one figure per episode, (n,), n at least 2.

    Raises:
        DataError: fewer than two values, or a value that is not finite.
    """
    from scipy.special import stdtrit

    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f"an interval needs at least 2 episodes, got an array of shape {values.shape}: evaluate more episodes")
    if not np.isfinite(values).all():
        raise DataError(f"episode {int(np.flatnonzero(~np.isfinite(values))[0])} has a figure that is not finite")
    spread = values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean()), float(stdtrit(len(values) - 1, 0.975) * spread), len(values))


def paired_difference(a: np.ndarray, b: np.ndarray) -> Interval:
    """Interval of a - b, both measured on the same episodes; far narrower than comparing two intervals.

    Raises:
        DataError: the two differ in number of episodes.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise DataError(f"a paired difference needs the same episodes twice, got shapes {a.shape} and {b.shape}")
    return interval(a - b)


@dataclass(frozen=True)
class Paired:
    """How two results on the same episodes differ.

    Args:
        difference: interval of a - b.
        p: two-sided p-value of no difference, for this one comparison: not corrected for how many were made.
        wins: episodes in which a is better.
        ties: episodes in which both are equal.
        losses: episodes in which b is better.
        rule: how the p-value was made.
    """

    difference: Interval
    p: float
    wins: int
    ties: int
    losses: int
    rule: str = PAIRED_RULE

    @property
    def sign(self) -> int:
        """Sign of the mean difference: 1 where a is better on average, -1 where b is, 0 where neither is."""
        return int(np.sign(self.difference.mean))


def paired_test(a: np.ndarray, b: np.ndarray) -> Paired:
    """Difference a - b of two heads or checkpoints, episode by episode, with its p-value.

    Differences that are all the same have p-value 1 where they are 0, else 0.

    Args:
        a: one figure per episode, (n,), n at least 2.
        b: the same of the other, on the same episodes in the same order.

    Raises:
        DataError: the two differ in number of episodes, fewer than two, or a figure that is not finite.
    """
    from scipy.special import stdtr

    found = paired_difference(a, b)
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    error = difference.std(ddof=1) / np.sqrt(found.count)
    p = 2 * stdtr(found.count - 1, -abs(found.mean) / error) if error > 0 else float(found.mean == 0)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return Paired(found, float(p), wins, found.count - wins - losses, losses)


def disjoint(a: Interval, b: Interval) -> bool:
    """Whether the two intervals share no point: enough to call results different, not needed for it."""
    return a.high < b.low or b.high < a.low


def extreme_episodes(accuracy: np.ndarray, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the best and of the worst episodes, most extreme first, each int64 (min(count, E),); ties in ascending order.

    Raises:
        DataError: no episodes, or a figure that is not finite.
    """
    accuracy = np.asarray(accuracy, dtype=np.float64)
    if accuracy.ndim != 1 or not len(accuracy) or not np.isfinite(accuracy).all():
        raise DataError(f"the best and worst need finite figures, one for each episode, got an array of shape {accuracy.shape}")
    return np.argsort(-accuracy, kind="stable")[:count], np.argsort(accuracy, kind="stable")[:count]
