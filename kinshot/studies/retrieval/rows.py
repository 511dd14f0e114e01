"""Figures of runs, put together where they differ by their seed alone, of references, and the differences between any two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from kinshot.core.statistics.bootstrap import means_again
from kinshot.core.statistics.means import mean_of
from kinshot.kin.metric_names import Wanted
from kinshot.studies.retrieval.answers import Answered
from kinshot.studies.sampled import Figure, Sampled
from kinshot.studies.study import Row
from kinshot.studies.summaries import corrected

PURPOSE = "retrieval/bootstrap"
RELEVANCE = ("acg_at_k", "wap")
"""Metrics that are as large as relevance is, and no shares."""


@dataclass(frozen=True)
class Arm:
    """One row: models that differ by their seed alone.

    Args:
        label: what it is called.
        members: answers by the seed of training.
        names: what each of them is called, by seed.
        reference: whether it is one.
    """

    label: str
    members: Mapping[int, Answered]
    names: Mapping[int, str]
    reference: bool = False


@dataclass(frozen=True)
class Difference:
    """An arm minus another on the same queries; `p_holm` is corrected for all pairs of one metric."""

    label: str
    against: str
    metric: str
    mean: float
    ci95: float
    n: int
    p: float
    p_holm: float = 1.0


class Figures:
    """Figures and their intervals, over the same lists of queries that were drawn again for all arms.

    Args:
        metrics: what is measured.
        seed: key of the lists.
        draws: how many.
    """

    def __init__(self, metrics: Sequence[Wanted], seed: int, draws: int) -> None:
        self.metrics, self.seed, self.draws = metrics, seed, draws
        self._again: dict[int, dict[str, np.ndarray]] = {}

    def rows(self, arms: Sequence[Arm]) -> list[Row]:
        """A row for each arm and metric, then those of single members where there are several."""
        found = [_row(arm.label, one, self._figure(arm, one)) for arm in arms for one in self.metrics]
        for arm in arms:
            for seed in arm.members if len(arm.members) > 1 else ():
                alone = Arm(arm.names[seed], {seed: arm.members[seed]}, arm.names)
                found += [{**_row(alone.label, one, self._figure(alone, one)), "part_of": arm.label} for one in self.metrics]
        return found

    def differences(self, arms: Sequence[Arm]) -> list[Difference]:
        """Any two runs, and every run against each reference, by the metrics over rankings."""
        pairs = [(two, one) for one, two in combinations([arm for arm in arms if not arm.reference], 2)]
        pairs += [(arm, other) for arm in arms if not arm.reference for other in arms if other.reference]
        found = []
        for one in self.metrics:
            for arm, other in pairs:
                if (mine := self._sampled(arm, one)) is not None and (theirs := self._sampled(other, one)) is not None:
                    over, scale = mine.minus(theirs), _scale(one)
                    found.append(Difference(arm.label, other.label, named(one), scale * over.mean, scale * over.ci95, over.n, over.p))
        return corrected(found, lambda difference: difference.metric)

    def _figure(self, arm: Arm, one: Wanted) -> Figure:
        if (sampled := self._sampled(arm, one)) is not None:
            return sampled.figure()
        over = mean_of([100 * answered.whole[one.text] for answered in arm.members.values()])
        return Figure(over.mean, over.low, over.high, len(arm.members), over.p)

    def _sampled(self, arm: Arm, one: Wanted) -> Sampled | None:
        """The arm's figure and those on the lists drawn again; None of a metric over all features."""
        members = arm.members
        if one.text not in next(iter(members.values())).values:
            return None
        each = {seed: float(answered.values[one.text].mean()) for seed, answered in members.items()}
        return Sampled(each, {seed: self._drawn(answered)[one.text] for seed, answered in members.items()}, _count(members))

    def _drawn(self, answered: Answered) -> dict[str, np.ndarray]:
        """By metric its mean on every list (B,)."""
        if id(answered) not in self._again:
            means = means_again(np.stack(list(answered.values.values())), PURPOSE, self.seed, self.draws)
            self._again[id(answered)] = dict(zip(answered.values, means, strict=True))
        return self._again[id(answered)]


def named(one: Wanted) -> str:
    """What a table calls a metric."""
    return one.text if one.name in RELEVANCE else f"{one.text}, %"


def _scale(one: Wanted) -> float:
    """What a figure in percent is multiplied by."""
    return 0.01 if one.name in RELEVANCE else 1.0


def _row(label: str, one: Wanted, figure: Figure) -> Row:
    scale = _scale(one)
    numbers: dict[str, Any] = {
        "mean": scale * figure.mean,
        "ci95": scale * figure.ci95,
        "low": scale * figure.low,
        "high": scale * figure.high,
    }
    return {"label": label, "metric": named(one), **numbers, "n": figure.n}


def _count(members: Mapping[int, Answered]) -> int:
    return len(next(iter(members.values())).queries)
