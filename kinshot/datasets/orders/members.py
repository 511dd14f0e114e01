"""Members of groups, drawn: what orders by class share."""

from __future__ import annotations

import numpy as np


def groups_of(values: np.ndarray) -> dict[int, np.ndarray]:
    """The rows of each value, ascending; those below 0 are of none."""
    rows = np.argsort(values, kind="stable")
    different, starts = np.unique(values[rows], return_index=True)
    return {value: part for value, part in zip(different.tolist(), np.split(rows, starts[1:]), strict=True) if value >= 0}


def several(members: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many of a group's members in a random choice: every one of them before any comes again."""
    whole, rest = divmod(count, len(members))
    return np.concatenate([np.tile(members, whole), rng.choice(members, rest, replace=False)])
