"""How well distances between embeddings give a graph back: the progress of structure-inducing pretraining."""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import DataError
from kinshot.kin.graph.graph import RelationGraph
from kinshot.kin.metrics.lrap import lrap
from kinshot.kin.metrics.recall_at_k import recall_at_k
from kinshot.kin.neighbors.found import ByGraph
from kinshot.kin.neighbors.retrieved import Retrieved


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
    import torch
    from sklearn.metrics import average_precision_score, ndcg_score

    from kinshot.kin.neighbors.ranking import ranked_blocks

    z, nodes = np.asarray(embeddings, dtype=np.float64), np.asarray(ids)
    count = len(nodes)
    if z.ndim != 2 or len(z) != count or not np.isfinite(z).all():
        raise DataError(f"neighbor retrieval needs finite embeddings (R, D) of {count} nodes, got shape {z.shape}")
    kin = ByGraph(graph, nodes)
    if count < 2 or not kin.total(slice(0, count)).any():
        raise DataError(f"neighbor retrieval: none of the {count} nodes has a neighbor among them: take more nodes")
    found = []
    for rows, near in ranked_blocks(torch.from_numpy(z), k=count - 1, metric="euclidean"):
        among, total, closeness = kin.among(rows, near.index.numpy()), kin.total(rows), near.closeness.numpy()
        some = total > 0
        found.append(Retrieved(among[some], total[some], closeness[some]))
    asked = sum(len(one.total) for one in found)
    return {
        "lrap": float(np.concatenate([lrap(one) for one in found]).mean()),
        "ndcg": float(sum(ndcg_score(one.kin, one.closeness) * len(one.total) for one in found if len(one.total)) / asked),
        "average_precision": float(
            average_precision_score(
                np.concatenate([one.kin.ravel() for one in found]), np.concatenate([one.closeness.ravel() for one in found])
            )
        ),
        "recall_at_1": float(np.concatenate([recall_at_k(one, k=1) for one in found]).mean()),
    }
