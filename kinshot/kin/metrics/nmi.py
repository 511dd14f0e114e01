"""Normalised mutual information of clusters and labels."""

from __future__ import annotations

import numpy as np

from kinshot.kin.clusters import as_many_clusters
from kinshot.kin.metrics import METRICS


@METRICS.register("nmi", depth="none")
def nmi(features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> float:
    """Mutual information of labels and as many clusters, over their mean entropy.

    The clusters are those of k-means. Random clusters get more than 0, the more the more clusters there are: `ami` corrects for that.

    Paper: Strehl, Ghosh, 2002, Cluster ensembles, JMLR 3; as metric learning uses it: Oh Song et al., 2016, arXiv 1511.06452

    Args:
        seed: key of the k-means starts.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels, as_many_clusters(features, labels, seed)))
