"""Figures of runs on the same things, with the intervals of what was drawn: the things (episodes, queries) again, and seeds.

The part of the things is had by bootstrap, that of the seeds is Student's. Both are added in quadrature, as in
`kinshot.core.statistics.parts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kinshot.core.statistics.parts import LEVEL, Part, half_width, p_value


@dataclass(frozen=True)
class Figure:
    """A figure in percent, its 95 % interval, what it is over, and the p-value of it being 0 where it is a difference."""

    mean: float
    low: float
    high: float
    n: int
    p: float

    @property
    def ci95(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Sampled:
    """A figure of S runs on the same things, and of B lists of what was drawn again, the same for all runs and models.

    Args:
        each: by the run's seed, its figure.
        draws: by the run's seed, float64 (B,), the figure on every list; NaN where a list has none.
        count: how many things there are.
    """

    each: Mapping[int, float]
    draws: Mapping[int, np.ndarray]
    count: int

    def figure(self) -> Figure:
        """The mean over runs."""
        return _figure(list(self.each.values()), list(self.draws.values()), [_seeds(self)], self.count)

    def minus(self, other: Sampled) -> Figure:
        """How far this is above another on the same things: paired by seed where they share two or more, by what was drawn in any case."""
        pairs = [(seed, seed) for seed in sorted(self.each.keys() & other.each.keys())]
        if len(self.each) == len(other.each) == 1:
            pairs = [(next(iter(self.each)), next(iter(other.each)))]
        if len(pairs) > 1 or len(self.each) == len(other.each) == 1:
            each = {a: self.each[a] - other.each[b] for a, b in pairs}
            return Sampled(each, {a: self.draws[a] - other.draws[b] for a, b in pairs}, self.count).figure()
        mean = float(np.mean(list(self.each.values())) - np.mean(list(other.each.values())))
        moved = np.mean(list(self.draws.values()), axis=0) - np.mean(list(other.draws.values()), axis=0)
        return _figure([mean], [moved], [_seeds(self), _seeds(other)], self.count)


def _seeds(of: Sampled) -> list[Part]:
    """The part of the seeds; nothing of one run."""
    values = list(of.each.values())
    return [Part("seeds", float(np.var(values, ddof=1)) / len(values), len(values) - 1)] if len(values) > 1 else []


def _figure(each: Sequence[float], draws: Sequence[np.ndarray], seeds: Sequence[list[Part]], count: int) -> Figure:
    mean, moved = float(np.mean(each)), np.mean(draws, axis=0)
    there, parts = moved[~np.isnan(moved)], [part for found in seeds for part in found]
    if not len(there) or np.isnan(mean):
        return Figure(np.nan, np.nan, np.nan, count, np.nan)
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    if not parts:
        sides = min(int((there <= 0).sum()), int((there >= 0).sum()))
        return Figure(100 * mean, 100 * low, 100 * high, count, min(1.0, 2 * (sides + 1) / (len(there) + 1)))
    half = float(np.hypot(half_width(parts), (high - low) / 2))
    again = Part("drawn again", float(there.var(ddof=1)), len(there) - 1)
    runs = min(part.freedom for part in parts) + 1
    return Figure(100 * mean, 100 * (mean - half), 100 * (mean + half), runs, p_value(mean, [*parts, again]))
