"""What a layer of a graph can do, whether its links are listed (`EdgeLayer`) or follow from blocks (`BlockLayer`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Neighbors:
    """Neighbours of some nodes, those of the node at place r of the request at indptr[r] .. indptr[r + 1] - 1.

    Args:
        indptr: row starts, int64 (B + 1,).
        indices: node ids, int64, sorted and unique within a row.
        weights: link weights, float32.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray

    def rows(self) -> np.ndarray:
        """Place in the request of every entry, int64."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


class Layer(Protocol):
    """One named kind of links among n nodes. Ids handed to these methods are already known to be in range."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was repaired when the layer was made."""

    @property
    def n(self) -> int:
        """Number of nodes."""

    def degrees(self) -> np.ndarray:
        """Links of every node, int64 (n,)."""

    def totals(self, ids: np.ndarray) -> np.ndarray:
        """Sum of the link weights of some nodes, float64 (B,)."""

    def pairs(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """All links of some nodes: place in `ids`, neighbour (both int64 (M,)), weights (M,) or none when all are 1."""

    def weights_of(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Weights of the links a[e] -> b[e], float32, 0 where there is none."""

    def dense(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Weights between two lists of ids, float32 (R, C); what stands at equal ids means nothing."""

    def draw(self, ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` neighbours of each node with probability proportional to weight, int64 (B, count), -1 where there is none."""

    def voter(self, codes: np.ndarray, classes: int, *, weighted: bool) -> Callable[[int, int], Any]:
        """A function of (start, stop): how much weight the neighbours of these rows give each label, sparse (stop - start, classes)."""

    def cost(self, classes: int) -> np.ndarray:
        """Entries touched when a row votes, int64 (n,)."""

    def joined(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Linked pairs (a, b), some at a time, that connect what the layer connects."""

    def entries(self) -> int:
        """Linked ordered pairs."""

    def take(self, ids: np.ndarray) -> Layer:
        """The layer among some nodes, renumbered 0 .. len(ids) - 1 in their order."""

    def split(self, part: np.ndarray) -> Layer:
        """The layer without links between parts (n,) and without links of nodes in no part (-1)."""

    def describe(self) -> dict[str, Any]:
        """What kind of layer this is, as plain values."""
