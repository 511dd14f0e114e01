"""Finding ids in a list of ids."""

from __future__ import annotations

import numpy as np

from kinshot.kin.graph.csr import spans

# Ids are first looked up by their last bits in a table that stays in the processor's cache: most are in no batch.
BITS = 1 << 16


def mark(dense: np.ndarray, rows: np.ndarray, ids: np.ndarray, columns: np.ndarray, values: np.ndarray | None) -> None:
    """Write values[e] (or 1) at row rows[e] of `dense` (R, C), in every column c for which columns[c] is ids[e]."""
    table = np.zeros(BITS, dtype=bool)
    table[columns & (BITS - 1)] = True
    maybe = np.flatnonzero(table[ids & (BITS - 1)])
    order = np.argsort(columns, kind="stable")
    known, wanted = columns[order], ids[maybe]
    first = np.searchsorted(known, wanted)
    hit, place = spans(first, np.searchsorted(known, wanted, side="right") - first)
    hit = maybe[hit]
    dense[rows[hit], order[place]] = 1 if values is None else values[hit]
