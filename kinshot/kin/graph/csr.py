"""Array helpers for rows stored one after the other (CSR): expanding rows, searching within rows, sorting pairs into rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# Entries treated at a time where a whole graph is walked: bounds temporary memory to some tens of megabytes.
BUDGET = 1 << 21


def index_dtype(count: int) -> type[np.signedinteger]:
    """The smallest of int32 and int64 that can number `count` things."""
    return np.int32 if count < 2**31 else np.int64


def chunks(lengths: np.ndarray, budget: int = BUDGET) -> Iterator[tuple[int, int]]:
    """Ranges (start, stop) of consecutive rows whose lengths (R,) sum to at most `budget`, or of a single longer row."""
    ends = np.cumsum(lengths, dtype=np.int64)
    start = 0
    while start < len(ends):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + budget, side="right")))
        yield start, stop
        start = stop


def expand(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All entries of some rows (R,): for each entry the place of its row in `rows` and its position, both int64 (M,)."""
    starts = indptr[rows]
    return spans(starts, indptr[rows + 1] - starts)


def spans(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The integers starts[r] .. starts[r] + lengths[r] - 1 of every r in turn: (r, integer), both int64 (sum of lengths,)."""
    row = np.repeat(np.arange(len(starts)), lengths)
    skipped = np.cumsum(lengths, dtype=np.int64) - lengths
    return row, np.arange(len(row)) + (starts - skipped)[row]


def pointers(lengths: np.ndarray) -> np.ndarray:
    """Row starts, int64 (R + 1,), from row lengths (R,)."""
    found = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=found[1:])
    return found


def first_where(low: np.ndarray, high: np.ndarray, test: Callable[[np.ndarray], np.ndarray], limit: int) -> np.ndarray:
    """Binary search, vectorised: the first position in [low, high) where a monotone `test` holds, else high.

    Args:
        low: first positions, int64.
        high: one past the last positions, same shape.
        test: positions to bool, False then True within each range; called with positions in [0, limit).
        limit: how many positions there are altogether.
    """
    low, high = np.array(low), np.array(high)
    while (undecided := low < high).any():
        middle = (low + high) >> 1
        found = test(np.minimum(middle, limit - 1))
        high = np.where(undecided & found, middle, high)
        low = np.where(undecided & ~found, middle + 1, low)
    return low


@dataclass(frozen=True)
class Rows:
    """Pairs sorted into rows.

    Args:
        indptr: row starts, int64 (n + 1,).
        indices: columns, sorted and unique within a row.
        weights: float32 or none.
        merged: how many repeated pairs were dropped.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray | None
    merged: int


def sort_pairs(n: int, a: np.ndarray, b: np.ndarray, weights: np.ndarray | None, *, both_ways: bool) -> Rows:
    """Sort links a[e] -> b[e] (and back, with `both_ways`) into rows; of a repeated link the largest weight stays.

    Works through windows of rows, so that beside the links and the result only a few ten megabytes are needed.
    """
    a, b = (np.ascontiguousarray(side, dtype=index_dtype(n)) for side in (a, b))
    counts = np.bincount(a, minlength=n)
    if both_ways:
        counts += np.bincount(b, minlength=n)
    directions = [(a, b), (b, a)] if both_ways else [(a, b)]
    windows = list(chunks(counts, 2 * BUDGET)) or [(0, n)]
    parts = [_window(n, directions, weights, window, len(windows) == 1) for window in windows]
    indices = np.concatenate([columns for _, columns, _ in parts])
    kept = None if weights is None else np.concatenate([part[2] for part in parts if part[2] is not None])
    lengths = np.concatenate([part[0] for part in parts])
    return Rows(pointers(lengths), indices, kept, int(counts.sum()) - len(indices))


def _window(
    n: int, directions: list[tuple[np.ndarray, np.ndarray]], weights: np.ndarray | None, window: tuple[int, int], whole: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Row lengths, sorted unique columns and weights of the links that start in a window of rows (`whole`: all do)."""
    keys, strengths = [], []
    for source, target in directions:
        inside = slice(None) if whole else np.flatnonzero((source >= window[0]) & (source < window[1]))
        keys.append(source[inside].astype(np.int64) * n + target[inside])
        if weights is not None:
            strengths.append(weights[inside])
    key = np.concatenate(keys)
    found = None
    if weights is None:
        key.sort()
        key = key[_firsts(key)]
    else:
        order = np.argsort(key)
        key = key[order]
        firsts = np.flatnonzero(_firsts(key))
        merged = np.maximum.reduceat(np.concatenate(strengths)[order], firsts) if len(firsts) else np.zeros(0)
        key, found = key[firsts], merged.astype(np.float32)
    # where each row's keys begin: a search costs less than dividing every key by n
    rows = np.arange(window[0], window[1] + 1) * n
    lengths = np.diff(np.searchsorted(key, rows))
    return lengths, (key - np.repeat(rows[:-1], lengths)).astype(index_dtype(n)), found


def _firsts(sorted_keys: np.ndarray) -> np.ndarray:
    first = np.ones(len(sorted_keys), dtype=bool)
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=first[1:])
    return first
