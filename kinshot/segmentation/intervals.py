"""How sure a figure is: bootstrap over episodes and, which is another question, over classes; and how sure a difference is.

A rule's figure is no mean over episodes but a mean of quotients of sums, so that no textbook formula gives its interval: what was drawn is
drawn again, with replacement, and the figure of every such list is had from the counts.

Paper: Efron, Tibshirani, 1993, An introduction to the bootstrap (percentile intervals)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.statistics.bootstrap import DRAWS, drawn_again
from kinshot.core.statistics.pairing import Tally, tally
from kinshot.core.statistics.parts import LEVEL
from kinshot.segmentation.counts import Counts
from kinshot.segmentation.rules import Quotients, Rule, mean_over_groups, miou, quotient

Over = Literal["episodes", "classes"]


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % percentile interval.

    Args:
        value: the figure.
        low: lower end.
        high: upper end.
        over: what was drawn again, `episodes` or `classes`.
        draws: how often.
    """

    value: float
    low: float
    high: float
    over: str
    draws: int


@dataclass(frozen=True)
class Difference:
    """How two results on the same episodes differ.

    Args:
        interval: of a - b; both are drawn again together.
        p: two-sided p-value of no difference: twice the share of draws on the other side of 0, at least 2 / (draws + 1); for this
            one comparison, not corrected for how many were made.
        tally: episodes in which a is better, both are equal, and b is better, by each one's own figure; one in which either has none
            is equal.
    """

    interval: Interval
    p: float
    tally: Tally


def over_episodes(measured: Quotients, *, seed: int, draws: int = DRAWS) -> Interval:
    """What other episodes of the same classes would give: episodes are drawn again with replacement.

    It shrinks with the number of episodes and says nothing of other classes.

    Args:
        measured: what a rule made of counts.
        seed: of the draws.
        draws: how many.

    Raises:
        DataError: fewer than two episodes.
    """
    return _interval(measured.value, drawn_figures(measured, "episodes", seed, draws), "episodes")


def over_classes(measured: Quotients, *, seed: int, draws: int = DRAWS) -> Interval:
    """What other classes from where these come from would give, their episodes being as many: classes are drawn again with replacement.

    It does not shrink with the number of episodes. With the five classes of a fold it is coarse, and rather too narrow than too wide. A
    rule whose groups are not the classes has each episode weighted by how often its classes were drawn.

    Args:
        measured: what a rule made of counts.
        seed: of the draws.
        draws: how many.

    Raises:
        DataError: fewer than two classes.
    """
    return _interval(measured.value, drawn_figures(measured, "classes", seed, draws), "classes")


def difference(a: Counts, b: Counts, rule: Rule = miou, *, over: Over = "episodes", seed: int, draws: int = DRAWS) -> Difference:
    """How far one result is above another on the same episodes: far narrower than two intervals side by side.

    Args:
        a: counts of the one.
        b: of the other.
        rule: whose figures are compared.
        over: what is drawn again, see `over_episodes` and `over_classes`.
        seed: of the draws.
        draws: how many.

    Raises:
        DataError: the two are not of the same episodes at the same size, or too few of them.
    """
    if a.confusion.shape != b.confusion.shape or not np.array_equal(a.classes, b.classes) or not np.array_equal(a.true, b.true):
        raise DataError("a paired difference needs the same episodes twice, scored at the same size: these two differ in classes or truth")
    one, other = rule(a), rule(b)
    moved = drawn_figures(one, over, seed, draws) - drawn_figures(other, over, seed, draws)
    there = moved[~np.isnan(moved)]
    sides = min(int((there <= 0).sum()), int((there >= 0).sum()))
    p = min(1.0, 2 * (sides + 1) / (len(there) + 1))
    own = np.nan_to_num(one.by_episode - other.by_episode)
    return Difference(_interval(one.value - other.value, moved, over), p, tally(own))


def _interval(value: float, figures: np.ndarray, over: str) -> Interval:
    there = figures[~np.isnan(figures)]
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist() if len(there) else (np.nan, np.nan)
    return Interval(value, low, high, over, len(figures))


def drawn_figures(measured: Quotients, over: Over, seed: int, draws: int = DRAWS) -> np.ndarray:
    """The figure of every list that was drawn again, (draws,); NaN where one has none.

    The lists depend on the seed and on the number of episodes (or classes) alone: those of two results on the same episodes are the same.

    Args:
        measured: what a rule made of counts.
        over: what is drawn again.
        seed: of the draws.
        draws: how many.

    Raises:
        DataError: fewer than two episodes, or classes.
    """
    figure = {"episodes": _of_episodes, "classes": _of_classes}[over](measured)
    return np.concatenate([figure(times) for times in _again(over, measured, seed, draws)])


def _again(over: Over, measured: Quotients, seed: int, draws: int) -> Iterator[np.ndarray]:
    return drawn_again(f"segmentation/bootstrap/{over}", _drawn_from(measured, over), seed, draws)


def _drawn_from(measured: Quotients, over: Over) -> int:
    count = len(measured.above) if over == "episodes" else len(np.unique(measured.classes))
    if count < 2:
        raise DataError(f"an interval over {over} needs at least two of them, got {count}: evaluate more {over}")
    return count


def _of_episodes(measured: Quotients) -> Callable[[np.ndarray], np.ndarray]:
    """Figures (B,) of lists in which each episode is so often, (B, E)."""
    return lambda times: mean_over_groups(quotient(times @ measured.above, times @ measured.below))


def _of_classes(measured: Quotients) -> Callable[[np.ndarray], np.ndarray]:
    """Figures (B,) of lists in which each class is so often, (B, K)."""
    if measured.of_classes:
        each = measured.each
        return lambda times: mean_over_groups(np.broadcast_to(each, times.shape), times)
    place = np.unique(measured.classes, return_inverse=True)[1].reshape(measured.classes.shape)
    of_episodes = _of_episodes(measured)
    return lambda times: of_episodes(times[:, place].mean(axis=2))
