"""What a graph promises: agreement with labels, the bound on AUROC, links across splits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import kinshot.kin.graph as graphs
from kinshot.core.errors import DataError
from kinshot.kin.graph import RelationGraph, from_edges, from_knn, from_labels, union
from tests.reference_graph import Case, cases, consistency


def drawn_labels(data: st.DataObject, n: int, least: int = -1, most: int = 2) -> np.ndarray:
    return np.array(data.draw(st.lists(st.integers(least, most), min_size=n, max_size=n)))


@given(cases(), st.data())
def test_agreement_is_that_of_the_dense_graph(case: Case, data: st.DataObject) -> None:
    y = drawn_labels(data, case.n)
    local, agreeing = consistency(case.weights, y)
    assert graphs.local_consistency(case.graph, y) == pytest.approx(local, nan_ok=True)
    assert graphs.homophily(case.graph, y) == pytest.approx(agreeing, nan_ok=True)
    assert graphs.local_consistency(case.graph, np.where(y < 0, -7, y * 1000)) == pytest.approx(local, nan_ok=True)


def test_agreement_in_slices_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    graph = union({"e": from_edges(rng.integers(0, 60, (200, 2)), rng.random(200)), "l": from_labels(rng.integers(-1, 6, 60))})
    y, part = rng.integers(-1, 4, 60), rng.integers(-1, 3, 60)
    whole = graphs.describe(graph, {"y": y}, {"part": part})
    monkeypatch.setattr("kinshot.kin.graph.csr.chunks.__defaults__", (7,))
    assert graphs.describe(graph, {"y": y}, {"part": part}) == whole


def test_ties_count_their_share() -> None:
    graph = from_edges([[0, 1], [0, 2], [0, 3], [0, 4]])
    assert graphs.local_consistency(graph, np.array([0, 0, 0, 1, 1])) == pytest.approx((0.5 + 1 + 1 + 0 + 0) / 5)
    assert graphs.local_consistency(graph, np.array([2, 0, 0, 1, 1])) == 0
    # tenths do not add up exactly in binary: three of them and 0.3 still tie
    weighted = from_edges([[0, 1], [0, 2], [0, 3], [0, 4]], [0.1, 0.1, 0.1, 0.3])
    assert graphs.local_consistency(weighted, np.array([1, 0, 0, 0, 1])) == pytest.approx((0.5 + 1) / 5)


def auroc(score: np.ndarray, y: np.ndarray) -> float:
    above = score[y == 1][:, None] - score[y == 0][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


@given(cases(most=9), st.data())
def test_auroc_of_the_neighbour_score_is_never_below_the_bound(case: Case, data: st.DataObject) -> None:
    y = drawn_labels(data, case.n, least=0, most=1)
    assume(set(y.tolist()) == {0, 1})
    some = case.linked.any(1)
    positive = case.weights @ (y == 1)
    score = positive[some] / case.weights.sum(1)[some]
    bound = graphs.auroc_bound(case.graph, y)
    if len(set(y[some].tolist())) < 2:
        assert np.isnan(bound)
    else:
        assert auroc(score, y[some]) >= bound
        assert bound == pytest.approx((score[y[some] == 1] > 0.5).mean() * (score[y[some] == 0] < 0.5).mean())


def test_the_bound_wants_two_labels() -> None:
    with pytest.raises(DataError, match="two labels, got 3"):
        graphs.auroc_bound(from_edges([[0, 1], [1, 2]]), np.array([0, 1, 2]))


@pytest.mark.parametrize("radius", [0.2, 0.5, 1.0])
def test_a_radius_vote_is_right_as_often_as_the_graph_is_consistent(radius: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    y = (X[:, 0] + 0.5 * rng.normal(size=120) > 0).astype(int)
    right = []
    for i in range(len(X)):
        near = np.linalg.norm(X - X[i], axis=1) <= radius
        near[i] = False
        votes = np.bincount(y[near], minlength=2)
        if near.any():
            right.append((votes[y[i]] == votes.max()) / (votes == votes.max()).sum())
    assert graphs.local_consistency(from_knn(X, radius=radius), y) == pytest.approx(np.mean(right))


def test_cliques_are_consistent_with_their_label_only() -> None:
    y, rng = np.repeat(np.arange(20), 50), np.random.default_rng(0)
    graph = from_labels(y)
    assert graphs.local_consistency(graph, y) == 1
    assert graphs.homophily(graph, y) == 1
    other = rng.integers(0, 2, 1000)
    assert graphs.homophily(graph, other) == pytest.approx(0.5, abs=0.05)


def test_isolated_and_unlabelled_nodes_are_left_out() -> None:
    graph = from_edges([[0, 1], [1, 2]], n=5)
    assert graphs.local_consistency(graph, np.array([0, 0, -1, 0, 1])) == 1
    assert np.isnan(graphs.local_consistency(graph, np.full(5, -1)))
    assert np.isnan(graphs.homophily(graph, np.array([-1, 0, -1, 0, 1])))


@given(cases(), st.data())
def test_leakage_counts_links_across(case: Case, data: st.DataObject) -> None:
    part = drawn_labels(data, case.n)
    across = (part[:, None] != part[None, :]) & (part >= 0)[:, None] & (part >= 0)[None, :]
    known = (part >= 0)[:, None] & (part >= 0)[None, :]
    halves = 1 if case.graph.directed else 2
    found = graphs.leakage(case.graph, part)
    for name, weights in case.layers.items():
        assert found.layers[name] == ((weights > 0) & across).sum() // halves
    assert found.links == sum(found.layers.values()) == sum(found.between.values())
    total = sum(((weights > 0) & known).sum() // halves for weights in case.layers.values())
    assert found.share == pytest.approx(found.links / total if total else 0)
    concerned = (case.linked & across).any(1)
    assert found.nodes == concerned.sum()


def test_a_leaking_split_is_named_and_mended() -> None:
    graph = from_edges([[0, 1], [1, 2], [2, 3], [3, 4]], n=6)
    part = np.array([0, 0, 1, 1, -1, 2])
    found = graphs.leakage(graph, part)
    assert (found.links, found.nodes, found.between) == (1, 2, {"0-1": 1})
    assert graphs.leakage(graph.split(part), part).links == 0
    assert graph.split(part).degrees().tolist() == [1, 1, 1, 1, 0, 0]


def test_description_is_plain() -> None:
    graph = union({"e": from_edges([[0, 1], [1, 2]], n=5, negatives=[[0, 4]]), "l": from_labels([0, 0, 1, -1, 1])}, {"l": 0.5})
    labels = {"y": np.array([0, 0, 1, 1, -1]), "none": np.full(5, -1), "three": np.array([0, 1, 2, 0, 0], dtype=np.uint8)}
    found = graphs.describe(graph, labels, {"split": np.array([0, 0, 0, 1, 1])})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["nodes"] == 5
    assert found["layers"]["l"]["weight"] == 0.5
    assert found["degrees"]["isolated"] == 1
    assert found["components"] == {"count": 2, "largest": 4, "single": 1}
    assert found["labels"]["none"]["local_consistency"] is None
    assert found["labels"]["three"]["auroc_bound"] is None
    assert found["labels"]["y"]["chance"] == pytest.approx(0.5)
    assert found["splits"]["split"]["links"] == 1
    assert any("no neighbours (3)" in line for line in found["findings"])


@pytest.mark.parametrize("y", [np.array([0, 1]), np.array([0.0, 1.0, 2.0]), np.array([[0], [1], [2]])])
def test_wrong_labels_are_named(y: np.ndarray) -> None:
    graph: RelationGraph = from_edges([[0, 1], [1, 2]])
    with pytest.raises(DataError, match="mine: labels must be one integer for each of the 3 nodes"):
        graphs.describe(graph, {"mine": y})
    with pytest.raises(DataError, match="one integer for each"):
        graphs.leakage(graph, y)
