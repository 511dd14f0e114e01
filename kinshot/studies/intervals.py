"""How the intervals of an evaluation are made, and what they cover and do not cover, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinshot.core.statistics.jackknife import classes_part
from kinshot.core.statistics.means import RULE, checked, columns_part, rows_part
from kinshot.core.statistics.parts import Estimate, Part, estimate
from kinshot.fewshot.groups import memberships
from kinshot.recipes.specs import Task
from kinshot.studies.tasks import Tasks

OVER_EPISODES, OVER_CLASSES = "episodes", "classes"
SEEDS_ALONE = "Student t, 95 %, over seeds alone; the samples, which all runs share, have no part in it"
CLASSES_RULE = "95 %, over classes (jackknife) and episodes, their parts in quadrature"
_FEW, _NEAR = 100, 1.0


@dataclass(frozen=True)
class Intervals:
    """Makes intervals of figures (E,) of one checkpoint, or (C, E) of several on the same episodes of a task.

    Args:
        played: which classes play in which episode, bool (E, K), of every task, for intervals over classes; None for episodes alone.
    """

    played: Mapping[Task, np.ndarray] | None = None

    def of(self, values: np.ndarray, task: Task) -> Estimate:
        """The mean and its interval. Raises DataError for too few episodes."""
        found = checked(values)
        return estimate(float(found.mean()), [*rows_part(found, "checkpoints"), *self._columns(found, task)])

    def between(self, a: np.ndarray, b: np.ndarray, task: Task) -> Estimate:
        """Mean of a (C, E) minus mean of b (D, E): other checkpoints on the same episodes, so that only the episodes are paired."""
        first, second = checked(a), checked(b)
        difference = first.mean(axis=0, keepdims=True) - second.mean(axis=0, keepdims=True)
        rows = [*rows_part(first, "checkpoints"), *rows_part(second, "checkpoints")]
        return estimate(float(difference.mean()), [*rows, *self._columns(difference, task)])

    def _columns(self, values: np.ndarray, task: Task) -> list[Part]:
        classes = [] if self.played is None else [classes_part(values.mean(axis=0), self.played[task])]
        return [*classes, *columns_part(values, "episodes")]

    def rule(self, several: bool) -> str:
        """What ± is, in words; `several` says that there are rows of several checkpoints."""
        alone = RULE if self.played is None else CLASSES_RULE
        return f"{alone}{several_rule(alone)}" if several else alone


def several_rule(alone: str, drawn: str = "episodes", checkpoints: str = "checkpoints") -> str:
    """How the rows of several checkpoints differ from the rule of single ones, to be put behind it."""
    shared = "this" if "quadrature" in alone else f"the {drawn} that they share"
    return f"; rows of several checkpoints: over {checkpoints} and over {shared}, in quadrature (Howe 1974)"


def intervals_over(name: str, tasks: Tasks) -> Intervals:
    """The intervals that `--interval` asks for, over the episodes of these tasks."""
    return Intervals({task: memberships(episodes) for task, episodes in tasks.items()} if name == OVER_CLASSES else None)


def covered(intervals: Intervals, classes: int) -> str:
    """What another draw that the interval is about would draw anew."""
    if intervals.played is None:
        return f"other episodes of these {classes} classes, not other classes (--interval classes)"
    return (
        f"other classes from where these {classes} come from, as far as they were drawn from there "
        "(somewhat fewer than 95 % of such intervals hold where there are few)"
    )


def accuracies(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    """The means, in percent, of the rows of a result that are accuracies in episodes and no differences of such."""
    return [
        row["mean"]
        for row in rows
        if row.get("metric", "").endswith("shot accuracy, %") and " minus " not in row["label"] and "paired" not in row["label"]
    ]


def roughness(means: Iterable[float], episodes: Sequence[int]) -> str:
    """Why a Student interval of these means, in percent, is only rough; empty where it is not."""
    near = sum(not _NEAR <= mean <= 100 - _NEAR for mean in means)
    few = min(episodes, default=_FEW)
    reasons = [f"only {few} episodes"] if few < _FEW else []
    reasons += [f"{near} {'mean' if near == 1 else 'means'} above {100 - _NEAR:g} % or below {_NEAR:g} %"] if near else []
    remedy = "fewer than 95 % of such intervals hold"
    return f"{' and '.join(reasons)} ({remedy})" if reasons else ""
