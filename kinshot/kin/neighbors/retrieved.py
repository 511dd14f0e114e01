"""What some queries found, as the metrics see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Retrieved:
    """Ranked references of q queries, nearest first, equal ones by index, each query with at least one kin among all references.

    References that a query must not meet (`found.Without`) are not among them; a query that is left with fewer than k has places without
    a reference at the end, which are no kin, with closeness -inf and label -1.

    Args:
        kin: whether the j-th nearest is kin, bool (q, k).
        total: kin among all references, int64 (q,), at least 1.
        closeness: larger the nearer, float (q, k), descending: cosine similarity, or minus the distance.
        own: class of each query, int64 (q,); None where kin are not said by labels.
        labels: class of the j-th nearest, int64 (q, k); None likewise.
        gains: how relevant the j-th nearest is, float64 (q, k), above 0 for kin and 0 for all others; None where kin are all alike.
        best: the gains of the k most relevant references, descending, float64 (q, k); None likewise.
    """

    kin: np.ndarray
    total: np.ndarray
    closeness: np.ndarray
    own: np.ndarray | None = None
    labels: np.ndarray | None = None
    gains: np.ndarray | None = None
    best: np.ndarray | None = None

    def hits(self) -> np.ndarray:
        """Kin among the j nearest, int64 (q, k)."""
        return self.kin.cumsum(axis=1)

    def places(self) -> np.ndarray:
        """1, 2, ... k, (k,)."""
        return np.arange(1, self.kin.shape[1] + 1)

    def relevance(self) -> np.ndarray:
        """How relevant the j-th nearest is, float64 (q, k): 1 for kin that are all alike."""
        return self.kin.astype(np.float64) if self.gains is None else self.gains

    def ideal(self, k: int) -> np.ndarray:
        """The relevance of the first k places of the best of all orders, float64 (q, at most k), 0 after the last kin."""
        if self.best is None:
            return (np.arange(k) < self.total[:, None]).astype(np.float64)
        return self.best[:, :k]
