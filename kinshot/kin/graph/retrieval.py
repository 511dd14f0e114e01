"""How well distances between embeddings give a graph back: the progress of structure-inducing pretraining."""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import DataError
from kinshot.kin.graph.graph import RelationGraph


def neighbor_retrieval(embeddings: np.ndarray, graph: RelationGraph, ids: np.ndarray) -> dict[str, float]:
    """Every sample ranks the others by distance; its neighbors among them should come first. 1 is perfect.

    `lrap` is label ranking average precision and `ndcg` normalised discounted cumulative gain (gain 1 for a neighbor), means over
    samples with a neighbor among `ids`; `average_precision` ranks all pairs together; `recall_at_1` is the share of samples whose
    nearest is a neighbor. Link weights play no part; a node listed twice meets its copy as a neighbor.

    Paper: the three that McDermott, Yap, Szolovits, Zitnik 2023, arXiv 2103.10334, log during pretraining; the fourth is ours.

    Args:
        embeddings: (R, D).
        graph: who is kin.
        ids: node of each row (R,).

    Raises:
        DataError: rows and ids differ in number, values that are not finite, or no link among `ids`.
    """
    from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, ndcg_score

    z = np.asarray(embeddings, dtype=np.float64)
    count = len(ids)
    if z.ndim != 2 or len(z) != count or not np.isfinite(z).all():
        raise DataError(f"neighbor retrieval needs finite embeddings (R, D) of {count} nodes, got shape {z.shape}")
    linked = graph.induced(np.asarray(ids)).positive > 0
    others = ~np.eye(count, dtype=bool)
    linked = linked[others].reshape(count, count - 1)
    some = linked.any(axis=1)
    if not some.any():
        raise DataError(f"neighbor retrieval: none of the {count} nodes has a neighbor among them: take more nodes")
    norms = (z**2).sum(axis=1)
    closeness = -np.maximum(norms[:, None] + norms - 2 * z @ z.T, 0)[others].reshape(count, count - 1)
    linked, closeness = linked[some], closeness[some]
    return {
        "lrap": float(label_ranking_average_precision_score(linked, closeness)),
        "ndcg": float(ndcg_score(linked, closeness)),
        "average_precision": float(average_precision_score(linked.ravel(), closeness.ravel())),
        "recall_at_1": float(linked[np.arange(len(linked)), closeness.argmax(axis=1)].mean()),
    }
