"""Adjusted Rand index of clusters and labels."""

from __future__ import annotations

import numpy as np

from kinshot.kin.clusters import as_many_clusters
from kinshot.kin.metrics import METRICS


@METRICS.register("ari", depth="none")
def ari(features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> float:
    """Share of pairs that labels and as many clusters agree on, of which chance has 0.

    The clusters are those of k-means; full agreement has 1.

    Paper: Hubert, Arabie, 1985, Comparing partitions, Journal of Classification 2

    Args:
        seed: key of the k-means starts.
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, as_many_clusters(features, labels, seed)))
