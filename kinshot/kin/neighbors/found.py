"""Which of the ranked are kin, and how many kin there are to be found: of labels, of a relation, or of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from kinshot.kin.graph.graph import RelationGraph
    from kinshot.kin.relation import Relation


class Kinship(Protocol):
    """Who is kin to whom, asked for some queries at a time; on the CPU, and free of torch but for a relation's own tensors."""

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """Which of each query's references int64 (q, k) are its kin: bool (q, k)."""

    def total(self, rows: slice) -> np.ndarray:
        """How many kin each query has among all references, itself left out where it is one: int64 (q,)."""


@dataclass(frozen=True, eq=False)
class ByLabel:
    """Kin are of one class.

    Args:
        labels: class of every query, int64 (Q,), from 0.
        references: class of every reference (N,); None where the queries are ranked among themselves.
    """

    labels: np.ndarray
    references: np.ndarray | None = None

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        found: np.ndarray = (self.labels if self.references is None else self.references)[index] == self.labels[rows, None]
        return found

    def total(self, rows: slice) -> np.ndarray:
        """As in `Kinship`."""
        others = self.labels if self.references is None else self.references
        counts = np.bincount(others, minlength=int(self.labels.max()) + 1)
        return counts[self.labels[rows]] - (self.references is None)


@dataclass(frozen=True, eq=False)
class ByRelation:
    """Kin are what a relation calls positive, whatever the weight; columns are read for a few queries at a time.

    Args:
        relation: of all queries to all references.
        itself: whether the queries are ranked among themselves, so that none is its own kin.
    """

    relation: Relation
    itself: bool = False

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        return np.take_along_axis(self._dense(rows), index, axis=1)

    def total(self, rows: slice) -> np.ndarray:
        """As in `Kinship`."""
        return self._dense(rows).sum(axis=1)

    def _dense(self, rows: slice) -> np.ndarray:
        part = self.relation.rows(rows).positive
        if part is None:
            return np.zeros((len(range(*rows.indices(self.relation.shape[0]))), self.relation.shape[1]), dtype=bool)
        found: np.ndarray = (part.dense(self.relation.shape[1]) > 0).cpu().numpy()
        if self.itself:
            found[np.arange(len(found)), np.arange(rows.start, rows.start + len(found))] = False
        return found


@dataclass(frozen=True, eq=False)
class ByGraph:
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
