"""Lines of an accuracy report: means over episodes and checkpoints, differences paired by seed, the verdict against the references."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from kinshot.core.statistics.multiple import holm
from kinshot.core.statistics.pairing import tally
from kinshot.recipes.specs import Task
from kinshot.studies.intervals import Intervals

UNTRAINED, STARTED = "untrained", "before training"
"""Labels of references: an encoder with random weights, and one with the weights that it came with."""
RAW = {
    "raw pixels": "pixels",
    "hand-made statistics": "statistics",
    "rows as they are": "features",
    "character counts": "counts",
    "features of the nodes": "node features",
}
"""Labels of the reference without an encoder, and what its feature is called (`Spec.raw_label`, `Spec.raw_feature`)."""


def is_reference(model: str) -> bool:
    """Whether a row's model is a reference, of all checkpoints or, `untrained (runs/x)`, of one of them."""
    return model.partition(" (")[0] in (UNTRAINED, STARTED, *RAW)


@dataclass(frozen=True)
class Line:
    """Accuracy of one model, feature and head on one task, in percent; `part_of` is the mean that a single checkpoint is part of."""

    model: str
    feature: str
    head: str
    ways: int | str
    shots: int | str
    mean: float
    ci95: float
    n: int
    part_of: str = ""

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.ci95

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.ci95


@dataclass(frozen=True)
class Measured:
    """Accuracy in every episode of one task, in percent: of one model, feature and head (E,), or of C checkpoints (C, E)."""

    model: str
    feature: str
    head: str
    ways: int | str
    shots: int | str
    accuracy: np.ndarray

    @property
    def task(self) -> Task:
        """Ways and shots."""
        return self.ways, self.shots

    @property
    def count(self) -> int:
        """What a mean is over: checkpoints, or the episodes of one checkpoint."""
        return len(self.accuracy)


@dataclass(frozen=True)
class Difference:
    """A head against the first one on the same episodes: mean difference in points, its 95 % half-width, p-value, wins and losses.

    `p_holm` is corrected for the number of heads that are compared with the first, of one model, feature and task.
    """

    model: str
    feature: str
    head: str
    against: str
    ways: int | str
    shots: int | str
    mean: float
    ci95: float
    p: float
    wins: int
    losses: int
    n: int
    p_holm: float = 1.0


def summarized(measured: Iterable[Measured], intervals: Intervals) -> list[Line]:
    """The mean of everything that was measured."""
    lines = []
    for m in measured:
        found = intervals.of(m.accuracy, m.task)
        lines.append(Line(m.model, m.feature, m.head, m.ways, m.shots, found.mean, found.half_width, m.count))
    return lines


def head_differences(measured: Iterable[Measured], intervals: Intervals) -> list[Difference]:
    """Every head against the first one, episode by episode."""
    first: dict[Hashable, Measured] = {}
    found = []
    for m in measured:
        against = first.setdefault((m.model, m.feature, m.task), m)
        if against is not m:
            difference = m.accuracy - against.accuracy
            over = intervals.of(difference, m.task)
            counted = tally(difference)
            task = (m.model, m.feature, m.head, against.head, m.ways, m.shots)
            found.append(Difference(*task, over.mean, over.half_width, over.p, counted.wins, counted.losses, m.count))
    return corrected(found, lambda d: (d.model, d.feature, d.ways, d.shots))


Tested = TypeVar("Tested", bound=Any)


def corrected(found: Sequence[Tested], family: Callable[[Tested], Hashable]) -> list[Tested]:
    """Differences with the p-values that Holm's correction makes of those of their family."""
    families: dict[Hashable, list[int]] = {}
    for number, difference in enumerate(found):
        families.setdefault(family(difference), []).append(number)
    stepped = dict(pair for members in families.values() for pair in zip(members, holm([found[m].p for m in members]), strict=True))
    return [replace(difference, p_holm=stepped[number]) for number, difference in enumerate(found)]


def by_size(value: Any) -> tuple[int, float, str]:
    """Sorting key of a setting's values: numbers by size, then everything else by its text."""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def beats(lines: list[Line]) -> bool:
    """Whether on every task the best pretrained row lies above every reference row with disjoint intervals."""
    for ways, shots in {(line.ways, line.shots) for line in lines}:
        task = [line for line in lines if (line.ways, line.shots) == (ways, shots)]
        ours = max(line.low for line in task if not is_reference(line.model))
        if ours <= max(line.high for line in task if is_reference(line.model)):
            return False
    return True
