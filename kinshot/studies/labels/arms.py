"""What is compared: runs, put together where they differ by their seed alone, and the references that they must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinshot.core.statistics.means import columns_part, mean_of, rows_part
from kinshot.core.statistics.pairing import paired_by
from kinshot.core.statistics.parts import Estimate, estimate
from kinshot.studies.study import Row, make_row
from kinshot.studies.summaries import corrected

Cell = tuple[str, str]
"""Block and column of a figure."""


@dataclass(frozen=True)
class Member:
    """One model: figures (E,) of each draw by block and column; `seed` is that of its training, None where there was none."""

    name: str
    seed: int | None
    values: Mapping[Cell, np.ndarray]


@dataclass(frozen=True)
class Arm:
    """One row of a table.

    Args:
        label: what it is called.
        members: models that differ by their seed alone.
        beside: labels of the references that it is compared with; a reference has none.
        reference: whether it is one.
        fixed: whether nothing of it was trained without labels or drawn, so that a single figure is all there is to know.
    """

    label: str
    members: tuple[Member, ...]
    beside: tuple[str, ...] = ()
    reference: bool = False
    fixed: bool = False

    def stack(self, cell: Cell) -> np.ndarray:
        """Figures (C, E) of all members, on the draws that they share."""
        return np.stack([member.values[cell] for member in self.members])


@dataclass(frozen=True)
class Difference:
    """An arm minus a reference on the same draws, in points; `p_holm` is corrected for all that one arm and measure was compared."""

    label: str
    against: str
    block: str
    column: str
    mean: float
    ci95: float
    n: int
    p: float
    p_holm: float = 1.0


def rows_of(arms: Sequence[Arm]) -> list[Row]:
    """A row for each arm, block and column, with the standard deviation `sd` of what it is over; those of single members follow."""
    found: list[Row] = []
    for arm in arms:
        several = len(arm.members) > 1
        for cell in arm.members[0].values:
            values = arm.stack(cell)
            found.append(_row(arm.label, cell, values if several else values[0]))
    for arm in arms:
        for member in arm.members if len(arm.members) > 1 else ():
            found += [{**_row(member.name, cell, values), "part_of": arm.label} for cell, values in member.values.items()]
    return found


def _row(label: str, cell: Cell, values: np.ndarray) -> Row:
    sd = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return {**make_row(label, *cell, values), "sd": sd}


def differences(arms: Sequence[Arm], measures: Mapping[str, str]) -> list[Difference]:
    """Every arm minus each reference beside it, for the blocks of `measures`, which gives what a difference is called.

    Paired by draw, and by seed where both were trained with the same ones.
    """
    by_label = {arm.label: arm for arm in arms}
    found = []
    for arm in arms:
        for other in (by_label[label] for label in arm.beside):
            for cell in arm.members[0].values:
                if cell[0] in measures and cell in other.members[0].values:
                    over, n = minus(arm, other, cell)
                    found.append(Difference(arm.label, other.label, measures[cell[0]], cell[1], over.mean, over.half_width, n, over.p))
    return corrected(found, lambda difference: (difference.label, difference.block))


def minus(arm: Arm, other: Arm, cell: Cell) -> tuple[Estimate, int]:
    """The mean difference of two arms on the draws that both have, and what it is over."""
    count = min(arm.stack(cell).shape[1], other.stack(cell).shape[1])
    ours, theirs = ([(member.seed, member.values[cell][:count]) for member in one.members] for one in (arm, other))
    pairs = list(paired_by(_by_seed(ours), _by_seed(theirs)).values())
    if len(other.members) == 1 and not pairs:
        pairs = [(values, theirs[0][1]) for _, values in ours]
    if pairs:
        values = np.stack([one - two for one, two in pairs])
        return mean_of(values), len(values) if len(values) > 1 else count
    first, second = (np.stack([values for _, values in one]) for one in (ours, theirs))
    difference = first.mean(axis=0, keepdims=True) - second.mean(axis=0, keepdims=True)
    rows = [*rows_part(first, "checkpoints"), *rows_part(second, "checkpoints")]
    return estimate(float(difference.mean()), [*rows, *columns_part(difference, "draws")]), len(first)


def _by_seed(members: Sequence[tuple[int | None, np.ndarray]]) -> dict[int, np.ndarray]:
    return {seed: values for seed, values in members if seed is not None}


def verdicts(arms: Sequence[Arm], rows: Sequence[Row], block: str) -> list[dict[str, Any]]:
    """For every column of a block: the row without labels that is best, the best reference, and whether their intervals are apart.

    `above` is None where one of them was measured once, so that it has no interval, and could have come out otherwise.
    """
    fixed = {arm.label for arm in arms if arm.fixed}
    reference = {arm.label: arm.reference for arm in arms}
    own = [row for row in rows if row["block"] == block and row["label"] in reference]
    found = []
    for column in dict.fromkeys(row["column"] for row in own):
        here = [row for row in own if row["column"] == column]
        sides = [[row for row in here if reference[row["label"]] == side] for side in (False, True)]
        if not all(sides):
            continue
        ours = max(sides[0], key=lambda row: row["mean"] - row["ci95"])
        theirs = max(sides[1], key=lambda row: row["mean"] + row["ci95"])
        known = all(row["n"] > 1 or row["label"] in fixed for row in (ours, theirs))
        above = ours["mean"] - ours["ci95"] > theirs["mean"] + theirs["ci95"] if known else None
        found.append({"column": column, "best": ours["label"], "reference": theirs["label"], "above": above})
    return found
