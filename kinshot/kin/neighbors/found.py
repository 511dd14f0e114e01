"""Which of the ranked are kin, and how many kin there are to be found: of labels, of a relation, or of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from kinshot.kin.graph.graph import RelationGraph
    from kinshot.kin.relation import Relation

Classes = tuple[np.ndarray, np.ndarray]
"""Class of every query (Q,), and of every reference (N,)."""


class Kinship(Protocol):
    """Who is kin to whom, asked for some queries at a time; on the CPU, and free of torch but for a relation's own tensors."""

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """Which of each query's references int64 (q, k) are its kin: bool (q, k)."""

    def total(self, rows: slice) -> np.ndarray:
        """How many kin each query has among all references, itself left out where it is one: int64 (q,)."""

    def gains(self, rows: slice, index: np.ndarray) -> np.ndarray | None:
        """How relevant each query's references int64 (q, k) are, float64 (q, k): 0 for those that are no kin; None where kin are alike."""
        return None

    def best(self, rows: slice, k: int) -> np.ndarray | None:
        """The k largest gains among all references, descending, float64 (q, k), 0 after the last kin; None where kin are alike."""
        return None

    def kept(self, rows: slice, index: np.ndarray) -> np.ndarray | None:
        """Which of each query's references int64 (q, k) it may meet, bool (q, k); None where it may meet them all."""
        return None

    @property
    def barred(self) -> int:
        """How many references a query must not meet, the most of all queries."""
        return 0

    @property
    def classes(self) -> Classes | None:
        """Classes of queries and references; None where kin are not said by a label each."""
        return None


@dataclass(frozen=True, eq=False)
class ByLabel(Kinship):
    """Kin are of one class.

    Args:
        labels: class of every query, int64 (Q,), from 0.
        references: class of every reference (N,); None where the queries are ranked among themselves.
    """

    labels: np.ndarray
    references: np.ndarray | None = None

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        found: np.ndarray = self.classes[1][index] == self.labels[rows, None]
        return found

    def total(self, rows: slice) -> np.ndarray:
        """As in `Kinship`."""
        counts = np.bincount(self.classes[1], minlength=int(self.labels.max()) + 1)
        return counts[self.labels[rows]] - (self.references is None)

    @property
    def classes(self) -> Classes:
        """As in `Kinship`."""
        return self.labels, self.labels if self.references is None else self.references


@dataclass(frozen=True, eq=False)
class ByRelation(Kinship):
    """Kin are what a relation calls positive, and the weight is how relevant they are; columns are read for a few queries at a time.

    Args:
        relation: of all queries to all references.
        itself: whether the queries are ranked among themselves, so that none is its own kin.
    """

    relation: Relation
    itself: bool = False

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        return self.gains(rows, index) > 0

    def total(self, rows: slice) -> np.ndarray:
        """As in `Kinship`."""
        found: np.ndarray = (self._dense(rows) > 0).sum(axis=1)
        return found

    def gains(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        return np.take_along_axis(self._dense(rows), index, axis=1).astype(np.float64)

    def best(self, rows: slice, k: int) -> np.ndarray:
        """As in `Kinship`."""
        return largest(self._dense(rows), k).astype(np.float64)

    def _dense(self, rows: slice) -> np.ndarray:
        part = self.relation.rows(rows).positive
        if part is None:
            return np.zeros((len(range(*rows.indices(self.relation.shape[0]))), self.relation.shape[1]), dtype=np.float32)
        found: np.ndarray = part.dense(self.relation.shape[1]).cpu().numpy()
        if self.itself:
            found = found.copy()
            found[np.arange(len(found)), np.arange(rows.start, rows.start + len(found))] = 0
        return found


@dataclass(frozen=True, eq=False)
class ByGraph(Kinship):
    """Kin are neighbours in a graph; a node listed twice meets its copy as a neighbour.

    Args:
        graph: who is kin.
        ids: node of each row, which are ranked among themselves (R,).
    """

    graph: RelationGraph
    ids: np.ndarray

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        return np.take_along_axis(self._dense(rows), index, axis=1)

    def total(self, rows: slice) -> np.ndarray:
        """As in `Kinship`."""
        return self._dense(rows).sum(axis=1)

    def _dense(self, rows: slice) -> np.ndarray:
        found: np.ndarray = self.graph.induced(self.ids[rows], self.ids).positive > 0
        found[np.arange(len(found)), np.arange(rows.start, rows.start + len(found))] = False
        return found


def largest(gains: np.ndarray, k: int) -> np.ndarray:
    """The k largest of each row (q, N), descending; zeros where there are fewer."""
    kept = min(k, gains.shape[1])
    found = np.sort(np.partition(gains, gains.shape[1] - kept, axis=1)[:, gains.shape[1] - kept :], axis=1)[:, ::-1]
    return np.pad(found, ((0, 0), (0, k - kept)))
