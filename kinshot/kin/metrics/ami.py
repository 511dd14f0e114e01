"""Adjusted mutual information of clusters and labels."""

from __future__ import annotations

import numpy as np

from kinshot.kin.clusters import as_many_clusters
from kinshot.kin.metrics import METRICS


@METRICS.register("ami", depth="none")
def ami(features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> float:
    """Mutual information of labels and as many clusters, of which chance has 0.

    The clusters are those of k-means; full agreement has 1.

    Paper: Vinh, Epps, Bailey, 2010, Information theoretic measures for clusterings comparison, JMLR 11

    Args:
        seed: key of the k-means starts.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(labels, as_many_clusters(features, labels, seed)))
