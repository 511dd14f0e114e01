"""What some queries found, as the metrics see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Retrieved:
    """Ranked references of q queries, nearest first, each query with at least one kin among all references.

    Args:
        kin: whether the j-th nearest is kin, bool (q, k).
        total: kin among all references, int64 (q,), at least 1.
        closeness: larger the nearer, float (q, k), descending: cosine similarity, or minus the distance.
        own: class of each query, int64 (q,); None where kin are not said by labels.
        labels: class of the j-th nearest, int64 (q, k); None likewise.
    """

    kin: np.ndarray
    total: np.ndarray
    closeness: np.ndarray
    own: np.ndarray | None = None
    labels: np.ndarray | None = None

    def hits(self) -> np.ndarray:
        """Kin among the j nearest, int64 (q, k)."""
        return self.kin.cumsum(axis=1)

    def places(self) -> np.ndarray:
        """1, 2, ... k, (k,)."""
        return np.arange(1, self.kin.shape[1] + 1)
