"""Dense episodes: which images show each way, and which are to be segmented."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DenseEpisodes:
    """E episodes of W ways, K shots and Q queries as sample indices.

    Args:
        classes: int64 (E, W), the value that each way's class has in class maps, that is its number among the class names plus 1.
        support: int64 (E, W, K), images that contain the way's class.
        query: int64 (E, Q), images that contain the class of at least one way, of other photographs than all of the support.
        target: int64 (E, Q), the way that each query was drawn for.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def ways(self) -> int:
        """W."""
        return self.classes.shape[1]

    @property
    def shots(self) -> int:
        """K."""
        return self.support.shape[2]

    @property
    def queries(self) -> int:
        """Q."""
        return self.query.shape[1]

    def __getitem__(self, rows: slice) -> DenseEpisodes:
        """Some of the episodes."""
        return DenseEpisodes(self.classes[rows], self.support[rows], self.query[rows], self.target[rows])
