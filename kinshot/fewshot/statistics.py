"""What per-episode accuracies say: a mean, how far to trust it, and whether two results differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinshot.core.errors import DataError

RULE = "Student t, 95 %, over episodes"


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


def disjoint(a: Interval, b: Interval) -> bool:
    """Whether the two intervals share no point: enough to call results different, not needed for it."""
    return a.high < b.low or b.high < a.low
