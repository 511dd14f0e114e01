"""Draws without replacement and without rejection, many at a time."""

from __future__ import annotations

import numpy as np


def distinct(uniform: np.ndarray, sizes: np.ndarray, needed: np.ndarray | None = None) -> np.ndarray:
    """Without replacement: row r holds `uniform.shape[1]` different integers in [0, sizes[r]), in random order.

    Draw i is uniform over the sizes[r] - i integers that are left, taken as its rank among them; the number of steps
    is that of the draws, whatever the size of the classes.

    Args:
        uniform: numbers in [0, 1), (rows, draws).
        sizes: how many integers there are, (rows,).
        needed: draws wanted in each row, (rows,), descending; the others are 0. None is all.
    """
    rows, draws = uniform.shape
    active = np.full(draws, rows) if needed is None else np.searchsorted(-needed, -np.arange(draws))  # rows with needed > i
    sizes = sizes.astype(np.float64)
    chosen = np.zeros((draws, rows), dtype=np.int32)  # one draw per line: each step reads whole lines
    ascending = np.full((draws, rows), np.iinfo(np.int32).max, dtype=np.int32)
    place = np.arange(draws, dtype=np.int32)[:, None]
    for i, n in enumerate(active):
        rank = (uniform[:n, i] * (sizes[:n] - i)).astype(np.int32)
        # the integer of that rank lies above every earlier choice s_j (ascending) with s_j - j <= rank
        chosen[i, :n] = rank + np.count_nonzero(ascending[:i, :n] - place[:i] <= rank, axis=0)
        ascending[1 : i + 1, :n] = np.maximum(ascending[:i, :n], np.minimum(ascending[1 : i + 1, :n], chosen[i, :n]))
        ascending[0, :n] = np.minimum(ascending[0, :n], chosen[i, :n])
    return chosen.T
