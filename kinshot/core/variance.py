"""Intervals of means that more than one kind of draw decides: checkpoints, episodes, and classes.

Several checkpoints that are measured on the same episodes are a crossed design: accuracy[c, e] = mean + checkpoint c + episode e + rest.
The mean over all varies with the checkpoints that were trained and with the episodes that were drawn, and the second part does not shrink
with more checkpoints. Each part gives a half-width of its own, with its own degrees of freedom, and they are added in quadrature.
This is exact where one part is all there is, and errs towards too wide in between (the rest is counted in both parts): in simulations of
2 to 5 checkpoints it covers 95 to 99 %. Satterthwaite's approximation of the summed variance falls to 87 % there, because three
checkpoints say little about their own spread.

Paper: Howe, 1974, Approximate confidence limits on the mean of X + Y where X and Y are two tabled independent random variables, JASA 69
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinshot.core.errors import DataError

LEVEL = 0.95
_SMALLEST, _HALVINGS = 1e-300, 60
"""Of a p-value that is searched for, and how often the search halves what is left."""


@dataclass(frozen=True)
class Part:
    """What one kind of draw contributes to the error of a mean.

    Args:
        over: what was drawn, for example "episodes".
        variance: of the mean, at least 0.
        freedom: degrees of freedom of that variance, at least 1.
    """

    over: str
    variance: float
    freedom: int


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval [mean - half_width, mean + half_width], and the parts that made it."""

    mean: float
    half_width: float
    parts: tuple[Part, ...]

    @property
    def p(self) -> float:
        """Two-sided p-value of a mean of 0."""
        return p_value(self.mean, self.parts)


def estimate(mean: float, parts: Sequence[Part]) -> Estimate:
    """The interval of a mean whose error has these independent parts."""
    return Estimate(mean, half_width(parts), tuple(parts))


def half_width(parts: Sequence[Part], level: float = LEVEL) -> float:
    """Half of the interval's width: the parts' own half-widths t * sqrt(variance), in quadrature. No parts give 0."""
    from scipy.special import stdtrit

    return float(np.sqrt(sum(part.variance * stdtrit(part.freedom, 0.5 + level / 2) ** 2 for part in parts)))


def p_value(mean: float, parts: Sequence[Part]) -> float:
    """The level at which the interval just reaches 0; of a single part that of Student's t. Without any spread 1 at 0, else 0."""
    from scipy.special import stdtr

    spread = [part for part in parts if part.variance > 0]
    if not spread or mean == 0:
        return float(mean == 0)
    if len(spread) == 1:
        return float(2 * stdtr(spread[0].freedom, -abs(mean) / np.sqrt(spread[0].variance)))
    low, high = np.log(_SMALLEST), 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        wide = _half_width_at(spread, float(np.exp(middle))) > abs(mean)
        low, high = (middle, high) if wide else (low, middle)
    return float(np.exp(high))


def _half_width_at(parts: Sequence[Part], p: float) -> float:
    """`half_width` for a level of 1 - p, exact for tiny p too."""
    from scipy.special import stdtrit

    return float(np.hypot.reduce([np.sqrt(part.variance) * stdtrit(part.freedom, p / 2) for part in parts]))


def rows_part(values: np.ndarray, over: str) -> list[Part]:
    """The part of the drawn rows of figures (C, E): the spread of the rows' means; nothing where there is one row."""
    return [] if len(values) < 2 else [Part(over, float(values.mean(axis=1).var(ddof=1)) / len(values), len(values) - 1)]


def columns_part(values: np.ndarray, over: str) -> Part:
    """The part of the drawn columns of figures (C, E): the spread of the columns' means."""
    return Part(over, float(values.mean(axis=0).var(ddof=1)) / values.shape[1], values.shape[1] - 1)


def checked(values: np.ndarray) -> np.ndarray:
    """Figures (E,) of one checkpoint or (C, E) of several as float64 (C, E). Raises DataError for fewer than two episodes, or NaN."""
    found = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if found.ndim != 2 or found.shape[1] < 2:
        raise DataError(f"an interval needs at least 2 episodes, got an array of shape {found.shape}: evaluate more episodes")
    if not np.isfinite(found).all():
        raise DataError(f"episode {int(np.flatnonzero(~np.isfinite(found).all(axis=0))[0])} has a figure that is not finite")
    return found


def crossed(values: np.ndarray) -> Estimate:
    """Mean and interval of figures that checkpoints (rows) reached on the same episodes (columns), both being drawn.

    Args:
        values: (C, E), or (E,) of one checkpoint, whose interval is then that of `statistics.interval`, over episodes alone.

    Raises:
        DataError: fewer than two episodes, or a figure that is not finite.
    """
    found = checked(values)
    return estimate(float(found.mean()), [*rows_part(found, "checkpoints"), columns_part(found, "episodes")])


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values for their number: at level 0.05 the chance of any false call is at most 5 %.

    Paper: Holm, 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6
    """
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)))
    found = np.empty_like(raw)
    found[order] = stepped
    return [float(value) for value in found]
