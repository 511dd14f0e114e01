"""Neighbor retrieval: what distances give back of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from kinshot.core.errors import DataError
from kinshot.kin.graph import from_edges, from_labels, neighbor_retrieval


def reference(z, linked):
    """The four figures by loops; `linked` bool (R, R)."""
    count = len(z)
    lrap, ndcg, first, pairs = [], [], [], []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        ranked = sorted(others, key=lambda j: ((z[i] - z[j]) ** 2).sum())
        hits = [bool(linked[i, j]) for j in ranked]
        if not any(hits):
            continue
        pairs += [(((z[i] - z[j]) ** 2).sum(), bool(linked[i, j])) for j in others]
        places = [rank for rank, hit in enumerate(hits, 1) if hit]
        lrap.append(np.mean([(n + 1) / place for n, place in enumerate(places)]))
        ndcg.append(sum(1 / np.log2(p + 1) for p in places) / sum(1 / np.log2(n + 2) for n in range(len(places))))
        first.append(hits[0])
    # both directions of a pair are equally far: each hit counts the precision among all pairs that are no farther
    precisions = [np.mean([other for d, other in pairs if d <= distance]) for distance, hit in pairs if hit]
    return {"lrap": np.mean(lrap), "ndcg": np.mean(ndcg), "average_precision": np.mean(precisions), "recall_at_1": np.mean(first)}


@pytest.mark.parametrize("seed", range(4))
def test_figures_agree_with_loops(seed):
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, 12, (20, 2))
    graph = from_edges(edges[edges[:, 0] != edges[:, 1]], n=12)
    ids, z = rng.permutation(12)[:9], rng.normal(size=(9, 3))
    linked = graph.induced(ids).positive > 0
    found = neighbor_retrieval(z, graph, ids)
    for name, value in reference(z, linked).items():
        assert found[name] == pytest.approx(value), name


def test_perfect_and_worst_embeddings():
    graph = from_labels([0, 0, 0, 1, 1, 1])
    z = np.array([[0.0], [0.1], [0.25], [9.0], [9.1], [9.25]])
    assert all(value == pytest.approx(1) for value in neighbor_retrieval(z, graph, np.arange(6)).values())
    mixed = neighbor_retrieval(np.array([[0.0], [5.0], [10.0], [0.1], [5.1], [10.1]]), graph, np.arange(6))
    assert mixed["recall_at_1"] == 0


def test_bad_input_is_refused():
    graph = from_edges([[0, 1]], n=4)
    with pytest.raises(DataError, match="none of the 2 nodes"):
        neighbor_retrieval(np.zeros((2, 3)), graph, np.array([2, 3]))
    with pytest.raises(DataError, match="finite"):
        neighbor_retrieval(np.full((2, 3), np.nan), graph, np.array([0, 1]))
    with pytest.raises(DataError, match="finite"):
        neighbor_retrieval(np.zeros((3, 3)), graph, np.array([0, 1]))
