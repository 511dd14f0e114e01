"""A layer of explicit links, stored by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from kinshot.core.errors import DataError
from kinshot.kin.graph.csr import BUDGET, Rows, chunks, expand, first_where, index_dtype, pointers, sort_pairs
from kinshot.kin.graph.places import mark


@dataclass(frozen=True, eq=False)
class EdgeLayer:
    """Links i -> indices[k] for k in indptr[i] .. indptr[i + 1] - 1; an undirected link is stored both ways.

    Args:
        indptr: row starts, int64 (n + 1,).
        indices: columns, sorted and unique within a row, never the row itself; int32 where n allows.
        weights: float32 > 0, one per entry, or none when all are 1.
        notes: what was repaired when the layer was made, for `validate`.

    Raises:
        DataError: arrays that do not fit together, a column out of range, a weight that is not finite and positive.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.indptr.ndim != 1 or len(self.indptr) < 1 or self.indptr[0] != 0 or (np.diff(self.indptr) < 0).any():
            raise DataError("the row starts of an EdgeLayer must be one array that starts with 0 and never falls")
        if self.indices.ndim != 1 or len(self.indices) != self.indptr[-1]:
            raise DataError(
                f"an EdgeLayer's row starts end at {self.indptr[-1]}, its columns have shape {self.indices.shape}: both must agree"
            )
        if len(self.indices) and not 0 <= int(self.indices.min()) <= int(self.indices.max()) < self.n:
            raise DataError(f"an EdgeLayer of {self.n} nodes has columns from {self.indices.min()} to {self.indices.max()}")
        if self.weights is not None and len(self.weights) != len(self.indices):
            raise DataError(f"an EdgeLayer has {len(self.indices)} links and {len(self.weights)} weights: give one weight a link")
        if self.weights is not None and len(self.weights) and not 0 < float(self.weights.min()) <= float(self.weights.max()) < np.inf:
            raise DataError("an EdgeLayer's weights must be finite and above 0: leave out links without weight")

    @classmethod
    def from_pairs(
        cls, n: int, a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None, *, both_ways: bool, notes: tuple[str, ...] = ()
    ) -> EdgeLayer:
        """The layer of links a[e] -> b[e] that are already known to be in range, without self loops and with weights > 0."""
        rows: Rows = sort_pairs(n, a, b, weights, both_ways=both_ways)
        if rows.merged:
            notes = (*notes, f"{rows.merged} repeated links were merged (the largest weight stays)")
        return cls(rows.indptr, rows.indices, rows.weights, notes)

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.indptr) - 1

    @cached_property
    def _row_totals(self) -> np.ndarray:
        found = np.zeros(self.n)
        for start, stop in chunks(self.degrees()):
            rows = np.repeat(np.arange(stop - start), np.diff(self.indptr[start : stop + 1]))
            found[start:stop] = np.bincount(rows, self.weights[self.indptr[start] : self.indptr[stop]], stop - start)  # type: ignore[index]
        return found

    def degrees(self) -> np.ndarray:
        """Links of every node, int64 (n,)."""
        return np.diff(self.indptr)

    def totals(self, ids: np.ndarray) -> np.ndarray:
        """Sum of the link weights of some nodes, float64 (B,)."""
        if self.weights is None:
            return (self.indptr[ids + 1] - self.indptr[ids]).astype(np.float64)
        return self._row_totals[ids]

    def pairs(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """All links of some nodes: place in `ids`, neighbour (both int64 (M,)), weights (M,) or none; sorted."""
        rows, positions = expand(self.indptr, ids)
        return rows, self.indices[positions].astype(np.int64), None if self.weights is None else self.weights[positions]

    def weights_of(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Weights of the links a[e] -> b[e], float32, 0 where there is none."""
        if not len(self.indices):
            return np.zeros(len(a), dtype=np.float32)
        position = first_where(self.indptr[a], self.indptr[a + 1], lambda k: self.indices[k] >= b, len(self.indices))
        inside = np.minimum(position, len(self.indices) - 1)
        linked = (position < self.indptr[a + 1]) & (self.indices[inside] == b)
        return linked.astype(np.float32) if self.weights is None else np.where(linked, self.weights[inside], np.float32(0))

    def dense(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Weights between two lists of ids, float32 (R, C)."""
        found = np.zeros((len(rows), len(columns)), dtype=np.float32)
        for start, stop in chunks(self.indptr[rows + 1] - self.indptr[rows]):
            row, neighbor, weights = self.pairs(rows[start:stop])
            mark(found[start:stop], row, neighbor, columns, weights)
        return found

    def draw(self, ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` neighbours of each node with probability proportional to weight, int64 (B, count), -1 where there is none."""
        starts, stops = self.indptr[ids], self.indptr[ids + 1]
        some = np.flatnonzero(stops > starts)
        found = np.full((len(ids), count), -1, dtype=np.int64)
        if len(some) == 0 or count == 0:
            return found
        if self.weights is None:
            chosen = starts[some, None] + rng.integers(0, (stops - starts)[some, None], (len(some), count))
        else:
            chosen = self._weighted_positions(ids[some], rng.random((len(some), count)))
        found[some] = self.indices[chosen]
        return found

    def _weighted_positions(self, ids: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Positions of the entries in which uniform numbers u (B, count) fall, along each row's cumulative weights."""
        _, positions = expand(self.indptr, ids)
        lengths = self.indptr[ids + 1] - self.indptr[ids]
        local = pointers(lengths)
        reached = np.concatenate([[0.0], np.cumsum(self.weights[positions], dtype=np.float64)])  # type: ignore[index]
        base = reached[local[:-1]][:, None]
        target = base + u * (reached[local[1:]][:, None] - base)
        place = np.searchsorted(reached, target, side="right") - 1
        # rounding may put a number close to 1 on the border of the next row
        place = np.clip(place, local[:-1, None], local[1:, None] - 1)
        return positions[place]

    def voter(self, codes: np.ndarray, classes: int, *, weighted: bool) -> Callable[[int, int], Any]:
        """A function of (start, stop): how much weight the neighbours of these rows give each label, sparse (stop - start, classes)."""
        return partial(self._votes, codes, classes, weighted)

    def _votes(self, codes: np.ndarray, classes: int, weighted: bool, start: int, stop: int) -> Any:
        first, last = self.indptr[start], self.indptr[stop]
        labels, ends = codes[self.indices[first:last]], self.indptr[start : stop + 1] - first
        weights = self.weights[first:last].astype(np.float64) if self.weights is not None and weighted else np.ones(last - first)
        known = labels >= 0
        if not known.all():
            labels, weights, ends = labels[known], weights[known], np.concatenate([[0], np.cumsum(known)])[ends]
        votes = csr_array((weights, labels, ends), shape=(stop - start, classes))
        votes.sum_duplicates()
        return votes

    def cost(self, classes: int) -> np.ndarray:
        """Entries touched when a row votes, int64 (n,)."""
        return self.degrees()

    def joined(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Linked pairs (a, b), some at a time, that connect what the layer connects."""
        degrees = self.degrees()
        for start, stop in chunks(degrees, BUDGET):
            yield np.repeat(np.arange(start, stop), degrees[start:stop]), self.indices[self.indptr[start] : self.indptr[stop]]

    def entries(self) -> int:
        """Linked ordered pairs."""
        return len(self.indices)

    def take(self, ids: np.ndarray) -> EdgeLayer:
        """The layer among some nodes, renumbered 0 .. len(ids) - 1 in their order."""
        new = np.full(self.n, -1, dtype=np.int64)
        new[ids] = np.arange(len(ids))
        return self._rebuilt(ids, new, np.zeros(self.n, dtype=np.int64))

    def split(self, part: np.ndarray) -> EdgeLayer:
        """The layer without links between parts (n,) and without links of nodes in no part (-1)."""
        everyone = np.arange(self.n)
        return self._rebuilt(everyone, everyone, part)

    def where(self, keep: np.ndarray) -> EdgeLayer:
        """The layer with only the entries for which keep (entries,) is true."""
        ends = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
        return EdgeLayer(ends[self.indptr], self.indices[keep], None if self.weights is None else self.weights[keep], self.notes)

    def _rebuilt(self, ids: np.ndarray, new: np.ndarray, part: np.ndarray) -> EdgeLayer:
        lengths, columns, weights = np.zeros(len(ids), dtype=np.int64), [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
        for start, stop in chunks(self.indptr[ids + 1] - self.indptr[ids]):
            row, old, weight = self.pairs(ids[start:stop])
            mine = part[ids[start:stop]][row]
            kept = np.flatnonzero((new[old] >= 0) & (mine == part[old]) & (mine >= 0))
            kept = kept[np.argsort(row[kept] * len(ids) + new[old[kept]], kind="stable")]
            lengths[start:stop] = np.bincount(row[kept], minlength=stop - start)
            columns.append(new[old[kept]].astype(index_dtype(len(ids))))
            if weight is not None:
                weights.append(weight[kept])
        joined = np.concatenate(columns).astype(index_dtype(len(ids)))
        return EdgeLayer(pointers(lengths), joined, None if self.weights is None else np.concatenate(weights))

    def describe(self) -> dict[str, Any]:
        """What kind of layer this is, as plain values."""
        return {"kind": "edges", "entries": self.entries(), "weighted": self.weights is not None}
