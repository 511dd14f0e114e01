"""Clusters of features, for the metrics that compare them with labels."""

from __future__ import annotations

import numpy as np

STARTS, ITERATIONS = 3, 100


def as_many_clusters(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """k-means (k-means++, the best of three starts) with as many clusters as there are labels: int (N,).

    Args:
        features: float (N, D).
        labels: int64 (N,).
        seed: key of the starts.
    """
    from sklearn.cluster import KMeans

    count = len(np.unique(labels))
    found: np.ndarray = KMeans(count, n_init=STARTS, max_iter=ITERATIONS, random_state=seed).fit_predict(features)
    return found
