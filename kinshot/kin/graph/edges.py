"""The border for edge lists: what people hand over becomes two checked id arrays, or an error that names the edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.graph.edge_layer import EdgeLayer

_SPARSE, _PER_EDGE = 20_000_000, 1000
"""Nodes that a graph may have whatever its edges, and for each edge: an id far beyond is a name and not a number."""


class EdgeError(DataError):
    """An edge list is wrong at one edge, which files translate to a line."""

    def __init__(self, problem: str, edge: int) -> None:
        super().__init__(f"edge {edge}: {problem}")
        self.problem, self.edge = problem, edge


@dataclass(frozen=True)
class Edges:
    """Checked links a[e] -> b[e].

    Args:
        n: number of nodes.
        a: first ends, ints (m,).
        b: second ends.
        weights: float32 > 0, or none.
        notes: what was left out.
    """

    n: int
    a: np.ndarray
    b: np.ndarray
    weights: np.ndarray | None
    notes: tuple[str, ...] = field(default=())

    def layer(self, *, directed: bool) -> EdgeLayer:
        """The edges as a layer."""
        return EdgeLayer.from_pairs(self.n, self.a, self.b, self.weights, both_ways=not directed, notes=self.notes)


def check_edges(edges: Any, weights: Any = None, n: int | None = None, self_loops: Literal["drop", "error"] = "drop") -> Edges:
    """Check an edge list (m, 2) or (2, m); a 2 x 2 array is read as two rows of one edge each.

    Raises:
        ConfigError: an unknown `self_loops`, an n that is no whole number from 1.
        EdgeError: an edge with an id that is fractional, negative or not below n, with a bad weight, or a refused self loop.
        DataError: not an array of integers of that shape, other than one weight for each edge, no node at all.
    """
    if self_loops not in ("drop", "error"):
        raise ConfigError(f"self_loops must be 'drop' or 'error', got {self_loops!r}")
    a, b = _ends(edges)
    highest = max(int(a.max()), int(b.max())) if len(a) else -1
    if n is not None and (not isinstance(n, int | np.integer) or n < 1):
        raise ConfigError(f"n must be a whole number from 1, got {n!r}")
    count = highest + 1 if n is None else int(n)
    if count > max(_SPARSE, _PER_EDGE * len(a)):
        raise DataError(f"{count} nodes for {len(a)} edges: ids count from 0, so that the largest says how many there are; renumber them")
    if count < 1:
        raise DataError("the graph is empty: there is no edge and no n; give n for a graph without edges")
    for end in (a, b):
        if len(end) and (int(end.min()) < 0 or int(end.max()) >= count):
            edge = int(np.flatnonzero((end < 0) | (end >= count))[0])
            raise EdgeError(f"({a[edge]}, {b[edge]}): id {end[edge]} is not a node; ids go from 0 to {count - 1}", edge)
    strengths = None if weights is None else _strengths(weights, len(a))
    loops = a == b
    notes: tuple[str, ...] = ()
    kept = ~loops
    if loops.any():
        edge = int(loops.argmax())
        if self_loops == "error":
            raise EdgeError(f"({a[edge]}, {b[edge]}) is a self loop; leave it out, or say self_loops='drop'", edge)
        notes += (f"{int(loops.sum())} self loops were dropped, the first at edge {edge} (node {a[edge]})",)
    if strengths is not None and (strengths == 0).any():
        notes += (f"{int((strengths == 0).sum())} links of weight 0 were dropped, the first at edge {int((strengths == 0).argmax())}",)
        kept &= strengths > 0
    if kept.all():
        return Edges(count, a, b, strengths, notes)
    return Edges(count, a[kept], b[kept], None if strengths is None else strengths[kept], notes)


def _ends(edges: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        array = np.asarray(edges)
    except ValueError as error:
        raise DataError(f"edges are ragged ({error}): give two ids an edge{_first_ragged(edges)}") from error
    if array.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if array.ndim != 2 or 2 not in array.shape:
        raise DataError(f"edges must have shape (m, 2) or (2, m), got {array.shape}")
    a, b = (array[:, 0], array[:, 1]) if array.shape[1] == 2 else (array[0], array[1])
    if array.dtype.kind == "f":
        return _whole(a, b, a), _whole(a, b, b)
    if array.dtype.kind not in "iu":
        raise DataError(f"edges must hold integer ids, got {array.dtype}: number the nodes from 0 first")
    return a, b


def _whole(a: np.ndarray, b: np.ndarray, end: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(end) & (end == np.floor(end)) & (np.abs(end) < 2.0**53))
    if wrong.any():
        edge = int(wrong.argmax())
        raise EdgeError(f"({a[edge]}, {b[edge]}): {end[edge]} is not a whole number; ids are 0, 1, 2, ...", edge)
    return end.astype(np.int64)


def _first_ragged(edges: Any) -> str:
    if isinstance(edges, Sequence):
        for number, edge in enumerate(edges):
            if not isinstance(edge, Sequence | np.ndarray) or len(edge) != 2:
                return f"; edge {number} is {edge!r}"
    return ""


def _strengths(weights: Any, edges: int) -> np.ndarray:
    try:
        found = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"weights must be numbers ({error})") from error
    if found.shape != (edges,):
        raise DataError(f"give one weight for each of the {edges} edges, got shape {found.shape}")
    largest = np.finfo(np.float32).max
    wrong = ~((found >= 0) & (found <= largest))
    if wrong.any():
        edge = int(wrong.argmax())
        raise EdgeError(f"weight {found[edge]} must be finite and not negative; pairs known to be strangers go to `negatives`", edge)
    # what float32 would round to 0 stays a link
    return np.where(found > 0, np.maximum(found, np.finfo(np.float32).tiny), 0).astype(np.float32)
