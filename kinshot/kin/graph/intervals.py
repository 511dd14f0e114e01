"""Sets of nodes as intervals: with the nodes in a suitable order, a block is a few intervals however many members it has.

The order puts nodes of one group together, within a group those of one block of the first block layer, and so on. Every
neighbourhood is then a short list of intervals, and a draw from its complement is a search in that list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinshot.kin.graph.block_layer import BlockLayer
from kinshot.kin.graph.csr import expand, first_where, index_dtype, pointers
from kinshot.kin.graph.layers import Layer


@dataclass(frozen=True)
class Runs:
    """Where the members of each block lie: intervals [starts[k], ends[k]) for k in indptr[b] .. indptr[b + 1] - 1."""

    indptr: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Order:
    """An order of the nodes.

    Args:
        node: node at each position (n,), none when every node stands at its own number.
        position: the inverse of `node`.
        runs: for each layer its blocks' intervals, none for layers of edges.
    """

    node: np.ndarray | None
    position: np.ndarray | None
    runs: tuple[Runs | None, ...]

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Positions of nodes, int64."""
        return (ids if self.position is None else self.position[ids]).astype(np.int64)

    def nodes(self, positions: np.ndarray) -> np.ndarray:
        """Nodes at positions, int64."""
        return (positions if self.node is None else self.node[positions]).astype(np.int64)


@dataclass(frozen=True)
class Intervals:
    """Disjoint, sorted intervals [starts[k], ends[k]) of positions, for each row r those at indptr[r] .. indptr[r + 1] - 1."""

    indptr: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def sizes(self) -> np.ndarray:
        """Positions covered in each row, int64 (B,)."""
        covered = pointers(self.ends - self.starts)
        return covered[self.indptr[1:]] - covered[self.indptr[:-1]]


def make_order(n: int, layers: Sequence[Layer], groups: np.ndarray | None) -> Order:
    """The order by group and then by block, layers of few blocks first, for their long runs."""
    blocked = sorted((layer for layer in layers if isinstance(layer, BlockLayer)), key=lambda layer: layer.blocks)
    keys = [layer.block for layer in reversed(blocked)] + ([] if groups is None else [groups])
    if not keys:
        return Order(None, None, tuple(None for _ in layers))
    node = np.lexsort(keys).astype(index_dtype(n))
    position = np.empty_like(node)
    position[node] = np.arange(n, dtype=node.dtype)
    return Order(
        node, position, tuple(runs_of(layer.block[node], layer.blocks) if isinstance(layer, BlockLayer) else None for layer in layers)
    )


def runs_of(codes: np.ndarray, count: int) -> Runs:
    """Intervals on which codes (n,) holds one value, sorted by value 0 .. count - 1; those of negative codes are left out."""
    if len(codes) == 0:
        return Runs(np.zeros(count + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    starts = np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1])
    ends = np.append(starts[1:], len(codes))
    order = np.argsort(codes[starts], kind="stable")
    order = order[codes[starts[order]] >= 0]
    return Runs(pointers(np.bincount(codes[starts[order]], minlength=count)), starts[order], ends[order])


def union(rows: np.ndarray, starts: np.ndarray, ends: np.ndarray, count: int, n: int) -> Intervals:
    """The union, row by row, of intervals [starts[k], ends[k]) of 0 .. n that belong to rows[k] of `count` rows, in any order."""
    shift = rows.astype(np.int64) * (n + 1)
    order = np.argsort(starts + shift, kind="stable")
    low, shift = (starts + shift)[order], shift[order]
    reached = np.maximum.accumulate(ends[order] + shift)
    first = np.ones(len(low), dtype=bool)
    first[1:] = low[1:] > reached[:-1]
    last = np.append(first[1:], True)[: len(low)]
    return Intervals(pointers(np.bincount(rows[order][first], minlength=count)), (low - shift)[first], (reached - shift)[last])


def closed_neighborhoods(order: Order, layers: Sequence[Layer], ids: np.ndarray, n: int) -> Intervals:
    """Each node together with its neighbours in all layers."""
    own = order.positions(ids)
    rows, starts, ends = [np.arange(len(ids))], [own], [own + 1]
    for layer, runs in zip(layers, order.runs, strict=True):
        if isinstance(layer, BlockLayer) and runs is not None:
            row, block = layer.near_blocks(layer.block[ids])
            place, k = expand(runs.indptr, block)
            rows.append(row[place])
            starts.append(runs.starts[k])
            ends.append(runs.ends[k])
        else:
            row, neighbor, _ = layer.pairs(ids)
            at = order.positions(neighbor)
            rows.append(row)
            starts.append(at)
            ends.append(at + 1)
    return union(np.concatenate(rows), np.concatenate(starts), np.concatenate(ends), len(ids), n)


def points(order: Order, rows: np.ndarray, ids: np.ndarray, count: int, n: int) -> Intervals:
    """Rows of single nodes as intervals."""
    at = order.positions(ids)
    return union(rows, at, at + 1, count, n)


def draw_outside(taken: Intervals, low: np.ndarray, high: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` uniform positions of [low[r], high[r]) outside row r's intervals, int64 (B, count), -1 where none is left.

    No rejection: a rank among the free positions is drawn, and the number of intervals before that free position is
    searched for: interval k lies before it when (start of k) - low - (positions covered by earlier intervals) <= rank.
    """
    window = np.diff(taken.indptr)
    floor, ceiling = np.repeat(low, window), np.repeat(high, window)
    starts, ends = np.clip(taken.starts, floor, ceiling), np.clip(taken.ends, floor, ceiling)
    covered = pointers(ends - starts)
    base = covered[taken.indptr[:-1]]
    free = (high - low) - (covered[taken.indptr[1:]] - base)
    found = np.full((len(low), count), -1, dtype=np.int64)
    some = np.flatnonzero(free > 0)
    if len(some) == 0 or count == 0:
        return found
    rank = rng.integers(0, free[some, None], (len(some), count))
    row_base, row_low = base[some, None], low[some, None]
    first, last = (np.broadcast_to(taken.indptr[some + side, None], rank.shape) for side in (0, 1))
    k = first_where(first, last, lambda k: starts[k] - row_low - (covered[k] - row_base) > rank, len(starts))
    found[some] = row_low + rank + covered[k] - row_base
    return found
