"""Kinship of samples that have several labels each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinshot.kin.neighbors.found import Kinship, largest

Relevance = Literal["shared", "jaccard"]
HELD = 1 << 22
"""Gains that are held at a time."""


@dataclass(frozen=True, eq=False)
class BySharedLabels(Kinship):
    """Kin share a label; the more they share, the more relevant they are. Gains of a few queries at a time are held.

    Paper: Zhao, Huang, Wang, Tan, 2015, Deep semantic ranking based hashing for multi-label image retrieval, arXiv 1501.06272

    Args:
        labels: which labels every query has, bool (Q, C).
        references: which labels every reference has, bool (N, C); None where the queries are ranked among themselves.
        relevance: "shared" is the number of labels that both have, "jaccard" that over the number that either has.
    """

    labels: np.ndarray
    references: np.ndarray | None = None
    relevance: Relevance = "shared"

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        return self.gains(rows, index) > 0

    def total(self, rows: slice) -> np.ndarray:
        """As in `Kinship`."""
        return self._each(rows, lambda gains, part: (gains > 0).sum(axis=1))

    def gains(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        return self._each(rows, lambda gains, part: np.take_along_axis(gains, index[part], axis=1))

    def best(self, rows: slice, k: int) -> np.ndarray:
        """As in `Kinship`."""
        return self._each(rows, lambda gains, part: largest(gains, k))

    def _each(self, rows: slice, ask: Callable[[np.ndarray, slice], np.ndarray]) -> np.ndarray:
        """What is asked of the gains (p, N) of some of the rows at a time, `part` of them."""
        others = (self.labels if self.references is None else self.references).astype(np.float32)
        own = np.arange(*rows.indices(len(self.labels)))
        step = max(1, HELD // len(others))
        found = []
        for start in range(0, len(own), step):
            part = own[start : start + step]
            mine = self.labels[part].astype(np.float32)
            gains = (mine @ others.T).astype(np.float64)
            if self.relevance == "jaccard":
                gains /= np.maximum(mine.sum(1)[:, None] + others.sum(1) - gains, 1)
            if self.references is None:
                gains[np.arange(len(part)), part] = 0
            found.append(ask(gains, slice(start, start + len(part))))
        return np.concatenate(found)
