"""F1 of the pairs that clusters put together."""

from __future__ import annotations

import numpy as np

from kinshot.kin.clusters import as_many_clusters
from kinshot.kin.metrics import METRICS


@METRICS.register("pair_f1", depth="none")
def pair_f1(features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> float:
    """F1 of pairs of one cluster as a guess at pairs of one class, with as many clusters.

    The clusters are those of k-means. Where no class and no cluster has two samples there is no pair to miss, and it is 1.

    Paper: Manning, Raghavan, Schütze, 2008, Introduction to information retrieval (section 16.3); as metric learning uses it: Oh Song et
        al., 2016, arXiv 1511.06452

    Args:
        seed: key of the k-means starts.
    """
    clusters = as_many_clusters(features, labels, seed)
    table = np.unique(np.stack([labels, clusters]), axis=1, return_counts=True)[1]
    together, of_class, of_cluster = (
        _pairs(counts) for counts in (table, *(np.unique(y, return_counts=True)[1] for y in (labels, clusters)))
    )
    return 2 * together / (of_class + of_cluster) if of_class + of_cluster else 1.0


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) // 2).sum())
