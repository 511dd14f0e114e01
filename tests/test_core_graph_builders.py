"""Builders of relation graphs: sparse matrices, nearest neighbours, labels, metadata, time, unions."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import kinshot.kin.graph as graphs
from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.graph import from_edges, from_labels
from tests.reference_graph import Case, cases, dense_of


def test_scipy_and_networkx_graphs_keep_their_weights() -> None:
    dense = np.array([[0, 2, 0], [2, 0, 0.5], [0, 0.5, 0]])
    for form in (sp.csr_array, sp.coo_matrix, sp.csc_array):
        assert np.array_equal(dense_of(graphs.from_scipy(form(dense))), dense)
    assert np.array_equal(dense_of(graphs.from_scipy(sp.csr_array(np.triu(dense)), directed=True)), np.triu(dense))
    two = np.array([[0, 1], [0, 0]])
    assert np.array_equal(dense_of(graphs.from_scipy(sp.csr_array(two), directed=True)), two)
    assert np.array_equal(dense_of(graphs.from_scipy(sp.csr_array(dense[:2, :2]))), dense[:2, :2])
    with pytest.raises(DataError, match="square"):
        graphs.from_scipy(sp.csr_array(np.ones((2, 3))))
    named = nx.Graph([("b", "a", {"weight": 3}), ("a", "c")])
    assert np.array_equal(dense_of(graphs.from_networkx(named)), [[0, 3, 0], [3, 0, 1], [0, 1, 0]])
    numbered = nx.DiGraph()
    numbered.add_nodes_from([2, 0, 1])
    numbered.add_edge(2, 0)
    assert np.array_equal(dense_of(graphs.from_networkx(numbered)), [[0, 0, 0], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dim", [2, 20])
def test_knn_against_all_distances(metric: Any, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinshot.kin.graph.build_knn.ROWS", 7)
    X = np.random.default_rng(0).normal(size=(40, dim))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    distance = np.linalg.norm(X[:, None] - X[None], axis=2) if metric == "euclidean" else 1 - unit @ unit.T
    np.fill_diagonal(distance, np.inf)
    nearest = np.zeros((40, 40), dtype=bool)
    np.put_along_axis(nearest, np.argsort(distance, axis=1)[:, :3], True, axis=1)
    assert np.array_equal(dense_of(graphs.from_knn(X, k=3, metric=metric)), nearest | nearest.T)
    assert np.array_equal(dense_of(graphs.from_knn(X, k=3, metric=metric, mutual=True)), nearest & nearest.T)
    radius = float(np.quantile(distance[np.isfinite(distance)], 0.2))
    found = dense_of(graphs.from_knn(X, radius=radius, metric=metric))
    assert np.array_equal(found, distance <= radius)
    assert found.any()


def test_knn_of_duplicates_links_others_only() -> None:
    graph = graphs.from_knn(np.zeros((6, 2)), k=2)
    assert (graph.degrees() >= 2).all()
    assert not np.diagonal(dense_of(graph)).any()


@pytest.mark.parametrize(
    ("X", "settings", "error", "message"),
    [
        ([[0.0], [np.nan]], {"k": 1}, DataError, "node 1 are not finite: column 0"),
        ([[0.0], [1.0]], {"k": 1, "metric": "cosine"}, DataError, "node 0 has only zeros"),
        ([1.0, 2.0], {"k": 1}, DataError, "shape"),
        ([[0.0], [1.0]], {"k": 2}, ConfigError, "from 1 to n - 1 = 1"),
        ([[0.0], [1.0]], {}, ConfigError, "exactly one of k and radius"),
        ([[0.0], [1.0]], {"radius": -1.0}, ConfigError, "radius"),
        ([[0.0], [1.0]], {"k": 1, "metric": "taxi"}, ConfigError, "metric"),
    ],
)
def test_wrong_features_are_named(X: Any, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        graphs.from_knn(X, **settings)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([3, 3, -1, -1, 5], [(0, 1)]),
        (["a", "", "a", "", "b"], [(0, 2)]),
        ([1.0, np.nan, 1.0, np.nan, 2.0], [(0, 2)]),
        (["a", None, "a", float("nan"), None], [(0, 2)]),
        (np.array(["2020-01-01", "NaT", "2020-01-01", "NaT", "2021-01-01"], dtype="datetime64[D]"), [(0, 2)]),
        ([True, False, True, False, False], [(0, 2), (1, 3), (1, 4), (3, 4)]),
    ],
)
def test_labels_of_many_kinds(y: Any, expected: list[tuple[int, int]]) -> None:
    assert [tuple(pair) for pair in np.argwhere(np.triu(dense_of(from_labels(y))))] == expected


def test_metadata_gives_one_layer_a_column() -> None:
    columns = {"site": ["x", "x", "y", ""], "patient": [0, -1, 0, 1], "unused": [0.5, 1, 2, 3]}
    graph = graphs.from_metadata(columns, ["site", "patient"], weights={"site": 0.5})
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[1, 0] = 0.5
    expected[0, 2] = expected[2, 0] = 1.0
    assert np.array_equal(dense_of(graph), expected)
    with pytest.raises(DataError, match=r"column 'unused': node 0 has the value 0\.5"):
        graphs.from_metadata(columns)
    with pytest.raises(DataError, match="column 'b' has 1 values, column 'a' has 2"):
        graphs.from_metadata({"a": [0, 1], "b": [0]})
    with pytest.raises(ConfigError, match="did you mean 'site'"):
        graphs.from_metadata(columns, ["sites"])


def label_distance(a: np.ndarray, b: np.ndarray) -> float:
    return sum(0.5 if x < 0 or y < 0 else float(x != y) for x, y in zip(a, b, strict=True))


@given(st.integers(1, 4), st.integers(1, 8), st.data())
def test_multilabel_distances_count_missing_labels_half(width: int, n: int, data: st.DataObject) -> None:
    cells = st.lists(st.sampled_from([-1, 0, 1]), min_size=width, max_size=width)
    Y = np.array(data.draw(st.lists(cells, min_size=n, max_size=n)))
    radius, shared = data.draw(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0])), data.draw(st.integers(1, 3))
    by_radius, by_shared = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            known = (Y[i] >= 0).any() and (Y[j] >= 0).any()
            by_radius[i, j] = i != j and known and (np.array_equal(Y[i], Y[j]) or label_distance(Y[i], Y[j]) <= radius)
            by_shared[i, j] = i != j and ((Y[i] == 1) & (Y[j] == 1)).sum() >= shared
    assert np.array_equal(dense_of(graphs.from_multilabel(Y, radius=radius)), by_radius)
    assert np.array_equal(dense_of(graphs.from_multilabel(np.where(Y < 0, np.nan, Y), radius=radius)), by_radius)
    assert np.array_equal(dense_of(graphs.from_multilabel(Y, min_shared=shared)), by_shared)
    if radius == 1.5:
        assert np.array_equal(dense_of(graphs.from_multilabel(Y)), by_radius)


def test_multilabel_neighbors_by_number() -> None:
    Y = [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    linked = dense_of(graphs.from_multilabel(Y, k=1))
    assert [tuple(pair) for pair in np.argwhere(np.triu(linked))] == [(0, 1), (0, 2), (1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("Y", "settings", "error", "message"),
    [
        ([[0, 1], [0, 2]], {}, DataError, "node 1 has label 2 in column 1"),
        ([[0, 1], [0.5, 0]], {}, DataError, "node 1 has label 0.5 in column 0"),
        ([0, 1], {}, DataError, "shape"),
        ([[0, 1], [0]], {}, DataError, "matrix"),
        ([[0]], {"k": 1, "radius": 1.0}, ConfigError, "at most one"),
        ([[0]], {"k": 0}, ConfigError, "k must be"),
        ([[0]], {"min_shared": 0}, ConfigError, "min_shared"),
    ],
)
def test_wrong_label_matrices_are_named(Y: Any, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        graphs.from_multilabel(Y, **settings)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(-1, 2)), min_size=1, max_size=12), st.integers(0, 4), st.integers(1, 3))
def test_time_links_neighbours_of_one_group_only(samples: list[tuple[int, int]], lag: int, steps: int) -> None:
    t, group = (np.array(side) for side in zip(*samples, strict=True))
    n = len(t)
    by_lag, by_steps = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            together = i != j and group[i] == group[j] >= 0
            by_lag[i, j] = together and abs(t[i] - t[j]) <= lag
            places = {k: place for place, k in enumerate(sorted((k for k in range(n) if group[k] == group[i]), key=lambda k: (t[k], k)))}
            by_steps[i, j] = together and abs(places[i] - places[j]) <= steps
    for times in (t, t.astype(np.uint16), t / 1.0):
        assert np.array_equal(dense_of(graphs.from_time(times, group, max_lag=lag)), by_lag)
    assert np.array_equal(dense_of(graphs.from_time(t, group, steps=steps)), by_steps)


@pytest.mark.parametrize(
    ("t", "settings", "error", "message"),
    [
        ([0.0, np.nan], {"steps": 1}, DataError, "node 1 has the time nan"),
        ([0.0], {"steps": 1}, DataError, "1 times and 2 groups"),
        ([0.0, 1.0], {}, ConfigError, "exactly one"),
        ([0.0, 1.0], {"steps": 0}, ConfigError, "steps"),
        ([0.0, 1.0], {"max_lag": -1}, ConfigError, "max_lag"),
    ],
)
def test_wrong_times_are_named(t: Any, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        graphs.from_time(t, [0, 0], **settings)


@given(cases(undirected=True), st.data())
def test_a_union_adds_weights(case: Case, data: st.DataObject) -> None:
    y = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=case.n, max_size=case.n)))
    joined = graphs.union({"first": case.graph, "labels": from_labels(y)}, {"labels": 4.0})
    expected = case.weights + 4.0 * dense_of(from_labels(y))
    assert dense_of(joined) == pytest.approx(expected)
    assert joined.degrees().tolist() == (expected > 0).sum(1).tolist()


def test_a_union_needs_the_same_nodes_and_keeps_negatives() -> None:
    a, b = from_edges([[0, 1]], n=4, negatives=[[0, 2]]), from_edges([[0, 2]], n=4, negatives=[[0, 3]])
    both = graphs.union({"a": a, "b": b})
    assert both.negatives is not None
    assert both.negatives.pairs(np.arange(4))[1].tolist() == [3, 0]
    with pytest.raises(DataError, match="'c' has 2 nodes, 'a' has 4"):
        graphs.union({"a": a, "c": from_edges([[0, 1]])})
    with pytest.raises(ConfigError, match="no graph"):
        graphs.union({"a": a}, {"x": 1.0})
    grouped = {name: from_edges([[0, 1]], groups=groups) for name, groups in (("a", [0, 1]), ("b", [0, 0]))}
    with pytest.raises(DataError, match="different groups"):
        graphs.union(grouped)
