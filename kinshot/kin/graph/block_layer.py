"""A layer whose links follow from blocks of nodes (classes, label sets, metadata values): cliques that are never written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from kinshot.core.errors import DataError
from kinshot.kin.graph.csr import chunks, expand, first_where, index_dtype, pointers
from kinshot.kin.graph.edge_layer import EdgeLayer


@dataclass(frozen=True, eq=False)
class BlockLayer:
    """Neighbours of a node: the other members of its block and all members of adjacent blocks, each with weight 1.

    Args:
        block: block of each node, 0 .. blocks - 1, -1 = in none (isolated), shape (n,).
        adjacency: links between different blocks, or none.
        notes: what was repaired when the layer was made, for `validate`.

    Raises:
        DataError: blocks that are not integers from -1, an adjacency of another number of blocks.
    """

    block: np.ndarray
    adjacency: EdgeLayer | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.block.ndim != 1 or self.block.dtype.kind != "i":
            raise DataError(f"a BlockLayer needs one signed integer per node, got {self.block.dtype} of shape {self.block.shape}")
        if len(self.block) and int(self.block.min()) < -1:
            raise DataError(f"node {int(self.block.argmin())} has block {self.block.min()}: blocks count from 0, -1 = in none")
        if self.adjacency is not None and int(self.block.max(initial=-1)) >= self.adjacency.n:
            raise DataError(f"a node is in block {self.block.max()}, the adjacency knows {self.adjacency.n} blocks")

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.block)

    @cached_property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.adjacency.n if self.adjacency is not None else int(self.block.max(initial=-1)) + 1

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where each block's members start in `members`, int64 (blocks + 1,)."""
        return pointers(np.bincount(self.block[self.block >= 0], minlength=self.blocks))

    @cached_property
    def members(self) -> np.ndarray:
        """Nodes that are in a block, by block and then by number."""
        order = np.argsort(self.block, kind="stable").astype(index_dtype(self.n))
        return order[self.n - self.offsets[-1] :]

    @cached_property
    def _rank(self) -> np.ndarray:
        """Place of each node among the members of its block; meaningless for nodes in none."""
        rank = np.zeros(self.n, dtype=index_dtype(self.n))
        rank[self.members] = np.arange(len(self.members)) - self.offsets[self.block[self.members]]
        return rank

    @cached_property
    def sizes(self) -> np.ndarray:
        """Members of each block, int64 (blocks,)."""
        return np.diff(self.offsets)

    @cached_property
    def _before(self) -> np.ndarray:
        """Members of the adjacent blocks listed before each entry of the adjacency, running over all rows, (entries + 1,)."""
        return pointers(self.sizes[self.adjacency.indices]) if self.adjacency is not None else np.zeros(1, dtype=np.int64)

    @cached_property
    def _reach(self) -> np.ndarray:
        """Neighbours of a member of each block, itself counted, int64 (blocks,)."""
        if self.adjacency is None:
            return self.sizes
        return self.sizes + self._before[self.adjacency.indptr[1:]] - self._before[self.adjacency.indptr[:-1]]

    def degrees(self) -> np.ndarray:
        """Links of every node, int64 (n,)."""
        return self._degrees_of(np.arange(self.n))

    def _degrees_of(self, ids: np.ndarray) -> np.ndarray:
        block = self.block[ids]
        if self.blocks == 0:
            return np.zeros(len(ids), dtype=np.int64)
        return np.where(block >= 0, self._reach[block] - 1, 0)

    def totals(self, ids: np.ndarray) -> np.ndarray:
        """Sum of the link weights of some nodes, float64 (B,)."""
        return self._degrees_of(ids).astype(np.float64)

    def near_blocks(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each block itself and its adjacent ones: (place in `blocks`, block), int64; -1 has none. Own blocks come first."""
        row = np.flatnonzero(blocks >= 0)
        own = blocks[row].astype(np.int64)
        if self.adjacency is None:
            return row, own
        place, near, _ = self.adjacency.pairs(own)
        return np.concatenate([row, row[place]]), np.concatenate([own, near])

    def pairs(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """All links of some nodes: place in `ids`, neighbour (both int64 (M,)), weights (all 1: none); not sorted."""
        row, blocks = self.near_blocks(self.block[ids])
        place, positions = expand(self.offsets, blocks)
        rows, found = row[place], self.members[positions].astype(np.int64)
        others = found != ids[rows]
        return rows[others], found[others], None

    def weights_of(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Weights of the links a[e] -> b[e], float32, 0 where there is none."""
        first, second = self.block[a], self.block[b]
        both = (first >= 0) & (second >= 0)
        linked = both & (first == second) & (a != b)
        if self.adjacency is not None:
            near = np.flatnonzero(both)
            linked[near] |= self.adjacency.weights_of(first[near], second[near]) > 0
        return linked.astype(np.float32)

    def dense(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Weights between two lists of ids, float32 (R, C); equal ids count as linked."""
        first, second = self.block[rows], self.block[columns]
        found = (first[:, None] == second[None, :]) & (first >= 0)[:, None]
        if self.adjacency is not None:
            (above, row), (left, column) = (np.unique(side, return_inverse=True) for side in (first, second))
            known, seen = above >= 0, left >= 0
            near = np.zeros((len(above), len(left)), dtype=bool)
            near[np.ix_(known, seen)] = self.adjacency.dense(above[known], left[seen]) > 0
            found |= near[row][:, column]
        return found.astype(np.float32)

    def draw(self, ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` neighbours of each node, uniformly, int64 (B, count), -1 where there is none."""
        found = np.full((len(ids), count), -1, dtype=np.int64)
        degrees = self._degrees_of(ids)
        some = np.flatnonzero(degrees > 0)
        if len(some) == 0 or count == 0:
            return found
        block, rank = self.block[ids[some], None], self._rank[ids[some], None]
        drawn = rng.integers(0, degrees[some, None], (len(some), count))
        # the first size - 1 numbers are the members of the own block without the node, the others those of adjacent blocks
        own = drawn < self.sizes[block] - 1
        position = self.offsets[block] + drawn + (drawn >= rank)
        if self.adjacency is not None and not own.all():
            position = np.where(own, position, self._adjacent_position(block, drawn - (self.sizes[block] - 1)))
        found[some] = self.members[np.minimum(position, len(self.members) - 1)]
        return found

    def _adjacent_position(self, block: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Position in `members` of the adjacent member of this number; where number < 0 the answer means nothing."""
        adjacency, before = self.adjacency, self._before
        if adjacency is None or adjacency.entries() == 0:
            return np.zeros_like(number)
        low, high = (np.broadcast_to(side, number.shape) for side in (adjacency.indptr[block], adjacency.indptr[block + 1]))
        target = before[low] + np.maximum(number, 0)
        entry = first_where(low, high, lambda k: before[k + 1] > target, adjacency.entries())
        entry = np.minimum(entry, adjacency.entries() - 1)
        return self.offsets[adjacency.indices[entry]] + target - before[entry]

    def voter(self, codes: np.ndarray, classes: int, *, weighted: bool) -> Callable[[int, int], Any]:
        """A function of (start, stop): how much weight the neighbours of these rows give each label, sparse (stop - start, classes)."""
        own = one_hot(codes, classes)
        counts = one_hot(self.block, self.blocks).T.tocsr() @ own
        if self.adjacency is not None:
            links = np.ones(self.adjacency.entries())
            counts = counts + csr_array((links, self.adjacency.indices, self.adjacency.indptr), shape=(self.blocks,) * 2) @ counts
        return partial(self._votes, np.where(self.block >= 0, codes, -1), counts.tocsr())

    def _votes(self, codes: np.ndarray, counts: Any, start: int, stop: int) -> Any:
        """What the near blocks hold, without the node itself."""
        return (one_hot(self.block[start:stop], self.blocks) @ counts - one_hot(codes[start:stop], counts.shape[1])).tocsr()

    def cost(self, classes: int) -> np.ndarray:
        """Entries touched when a row votes, int64 (n,)."""
        return np.minimum(self.degrees(), classes) + 1

    def joined(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Linked pairs (a, b), some at a time, that connect what the layer connects: a star for each block."""
        hub = self.members[np.minimum(self.offsets[:-1], max(len(self.members) - 1, 0))] if len(self.members) else self.members
        yield self.members, hub[self.block[self.members]] if len(self.members) else self.members
        if self.adjacency is not None:
            for a, b in self.adjacency.joined():
                filled = np.flatnonzero((self.sizes[a] > 0) & (self.sizes[b] > 0))
                yield hub[a[filled]], hub[b[filled]]

    def entries(self) -> int:
        """Linked ordered pairs."""
        return int((self.sizes * (self._reach - 1)).sum())

    def take(self, ids: np.ndarray) -> BlockLayer:
        """The layer among some nodes, renumbered 0 .. len(ids) - 1 in their order; empty blocks vanish."""
        return self._renumbered(self.block[ids].astype(np.int64), 1)

    def split(self, part: np.ndarray) -> BlockLayer:
        """The layer without links between parts (n,) and without links of nodes in no part (-1)."""
        width = int(part.max(initial=0)) + 1
        return self._renumbered(np.where((self.block >= 0) & (part >= 0), self.block.astype(np.int64) * width + part, -1), width)

    def _renumbered(self, code: np.ndarray, width: int) -> BlockLayer:
        """Blocks by code = old block * width + part (-1 = none); blocks of one part are adjacent where the old ones are."""
        codes = np.unique(code[code >= 0])
        block = np.where(code >= 0, np.searchsorted(codes, code), -1).astype(index_dtype(max(len(codes), 1)))
        if self.adjacency is None:
            return BlockLayer(block)
        found = []
        for start, stop in chunks(self.adjacency.degrees()[codes // width]):
            mine = codes[start:stop]
            row, near, _ = self.adjacency.pairs(mine // width)
            wanted = near * width + (mine % width)[row]
            place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            hit = codes[place] == wanted
            found.append(np.stack([row[hit] + start, place[hit]]))
        a, b = np.concatenate(found, axis=1) if found else np.zeros((2, 0), dtype=np.int64)
        return BlockLayer(block, EdgeLayer.from_pairs(len(codes), a, b, both_ways=False))

    def describe(self) -> dict[str, Any]:
        """What kind of layer this is, as plain values."""
        adjacent = 0 if self.adjacency is None else self.adjacency.entries() // 2
        largest = int(self.sizes.max(initial=0))
        found = {"kind": "blocks", "entries": self.entries(), "weighted": False}
        return found | {"blocks": self.blocks, "largest_block": largest, "adjacent_blocks": adjacent}


def one_hot(codes: np.ndarray, classes: int) -> Any:
    """Codes (n,) as a sparse matrix (n, classes) with a 1 in each row, or nothing where the code is -1."""
    known = codes >= 0
    return csr_array((np.ones(int(known.sum())), codes[known], pointers(known)), shape=(len(codes), classes))
