"""Relation graphs: structure against dense references, builders, and the border."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

import kinshot.kin.graph as graphs
from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.graph import BlockLayer, EdgeLayer, RelationGraph, from_edges, from_labels
from kinshot.kin.graph.csr import sort_pairs
from tests.reference_graph import Case, cases, dense_of, within

ids = st.lists(st.integers(0, 10**6), max_size=12)


def some(numbers: list[int], n: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64) % n


@given(cases(), ids)
def test_neighbors_degrees_and_weights_are_those_of_the_dense_graph(case: Case, numbers: list[int]) -> None:
    rows = some(numbers, case.n)
    found = case.graph.neighbors(rows)
    for place, i in enumerate(rows):
        mine = slice(found.indptr[place], found.indptr[place + 1])
        assert found.indices[mine].tolist() == np.flatnonzero(case.linked[i]).tolist()
        assert found.weights[mine] == pytest.approx(case.weights[i][case.linked[i]])
    assert case.graph.degrees().tolist() == case.linked.sum(1).tolist()
    a, b = (side.ravel() for side in np.meshgrid(np.arange(case.n), np.arange(case.n)))
    assert case.graph.weights(a, b) == pytest.approx(case.weights[a, b])
    assert case.graph.degree_stats().links == case.linked.sum() // (1 if case.graph.directed else 2)


@given(cases(), ids, ids, st.integers(0, 3))
def test_induced_is_the_dense_graph_between_two_lists(case: Case, first: list[int], second: list[int], hops: int) -> None:
    rows, columns = some(first, case.n), some(second, case.n)
    found = case.graph.induced(rows, columns, mask_hops=hops)
    same = rows[:, None] == columns[None, :]
    assert found.positive == pytest.approx(np.where(same, 1, case.weights[np.ix_(rows, columns)]))
    near = within(case.linked, hops)[np.ix_(rows, columns)]
    assert np.array_equal(found.masked, near & ~case.linked[np.ix_(rows, columns)] & ~same)
    assert np.array_equal(case.graph.induced(rows).positive, case.graph.induced(rows, rows).positive)


@given(cases(), ids, st.integers(1, 4))
def test_balls_are_matrix_powers(case: Case, numbers: list[int], hops: int) -> None:
    rows = some(numbers, case.n)
    found = case.graph.ball(rows, hops)
    dense = np.zeros((len(rows), case.n), dtype=bool)
    dense[found.rows(), found.indices] = True
    assert np.array_equal(dense, within(case.linked, hops)[rows])


@given(cases())
def test_components_ignore_directions(case: Case) -> None:
    count, label = case.graph.components()
    expected, other = connected_components(sp.csr_array(case.linked), directed=True, connection="weak")
    assert count == expected
    assert np.array_equal(label[:, None] == label[None, :], other[:, None] == other[None, :])
    assert list(dict.fromkeys(label.tolist())) == list(range(count))


@given(cases(), st.data())
def test_subgraph_and_split_cut_the_dense_graph(case: Case, data: st.DataObject) -> None:
    keep = np.array(data.draw(st.permutations(range(case.n)))[: data.draw(st.integers(1, case.n))])
    assert dense_of(case.graph.subgraph(keep)) == pytest.approx(case.weights[np.ix_(keep, keep)])
    mask = np.isin(np.arange(case.n), keep)
    assert dense_of(case.graph.subgraph(mask)) == pytest.approx(case.weights[np.ix_(mask, mask)])
    part = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=case.n, max_size=case.n)))
    inside = (part[:, None] == part[None, :]) & (part >= 0)[:, None]
    cut = case.graph.split(part)
    assert dense_of(cut) == pytest.approx(case.weights * inside)
    assert graphs.leakage(cut, part).links == 0


@given(cases())
def test_sound_graphs_have_sound_rows(case: Case) -> None:
    isolated = int((~case.linked.any(1)).sum())
    found = [line for line in case.graph.validate() if "repeated" not in line and "dropped" not in line and "no links" not in line]
    assert [line.split(" ")[0] for line in found] == ([str(isolated)] if isolated else [])


def test_rows_are_the_same_through_many_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b, weights = rng.integers(0, 50, 600), rng.integers(0, 50, 600), rng.random(600).astype(np.float32)
    whole = [sort_pairs(50, a, b, w, both_ways=both) for w in (None, weights) for both in (False, True)]
    monkeypatch.setattr("kinshot.kin.graph.csr.BUDGET", 20)
    for before, (w, both) in zip(whole, [(w, both) for w in (None, weights) for both in (False, True)], strict=True):
        after = sort_pairs(50, a, b, w, both_ways=both)
        assert np.array_equal(before.indptr, after.indptr)
        assert np.array_equal(before.indices, after.indices)
        assert before.merged == after.merged
        assert (before.weights is None) == (after.weights is None)
        assert before.weights is None or np.array_equal(before.weights, np.asarray(after.weights))


def test_storage_is_small() -> None:
    layer = from_edges([[0, 1], [1, 2]]).layers["edges"]
    assert isinstance(layer, EdgeLayer)
    assert (layer.indptr.dtype, layer.indices.dtype, layer.weights) == (np.int64, np.int32, None)


def test_a_clique_of_a_million_samples_is_never_written_out() -> None:
    graph = from_labels(np.zeros(1_000_000, dtype=np.int64))
    rng = np.random.default_rng(0)
    assert graph.layers["labels"].entries() == 1_000_000 * 999_999
    assert graph.degree_stats().links == 1_000_000 * 999_999 // 2
    assert graph.components()[0] == 1
    assert (graph.sample_positives(np.arange(256), 2, rng) >= 0).all()
    assert (graph.sample_negatives(np.arange(256), 2, rng) == -1).all()
    assert (graph.induced(np.arange(64)).positive == 1).all()
    assert graphs.homophily(graph, np.arange(1_000_000) % 2) == pytest.approx(499_999 / 999_999)


def test_edges_come_in_many_forms() -> None:
    expected = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    for edges in ([[0, 1], [1, 2]], [(0, 1), (1, 2)], np.array([[0, 1], [1, 2]], dtype=np.uint8), np.array([[0.0, 1.0], [1.0, 2.0]])):
        assert np.array_equal(dense_of(from_edges(edges)), expected)
    assert np.array_equal(dense_of(from_edges(np.array([[0, 1, 0], [1, 2, 1]]))), expected)
    torch = pytest.importorskip("torch")
    assert np.array_equal(dense_of(from_edges(torch.tensor([[0, 1], [1, 2]]))), expected)
    assert from_edges([], n=3).degrees().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": [[0, 1], [2, 9]], "n": 5}, r"edge 1: \(2, 9\): id 9 is not a node; ids go from 0 to 4"),
        ({"edges": [[0, 1], [-1, 2]]}, r"edge 1: \(-1, 2\): id -1"),
        ({"edges": [[0.0, 1.0], [1.5, 2.0]]}, r"edge 1: \(1.5, 2.0\): 1.5 is not a whole number"),
        ({"edges": [[0.0, np.nan]]}, "edge 0: .* is not a whole number"),
        ({"edges": [["a", "b"]]}, "integer ids"),
        ({"edges": [[0, 1], [1]]}, r"ragged.*edge 1 is \[1\]"),
        ({"edges": [[0, 1, 2]]}, r"shape \(m, 2\)"),
        ({"edges": []}, "empty"),
        ({"edges": [[0, 0]], "self_loops": "error"}, "edge 0: .* self loop"),
        ({"edges": [[0, 1], [1, 2]], "weights": [1, np.nan]}, "edge 1: weight nan"),
        ({"edges": [[0, 1], [1, 2]], "weights": [1, -2]}, "edge 1: weight -2.0"),
        ({"edges": [[0, 1], [1, 2]], "weights": [np.inf, 1]}, "edge 0: weight inf"),
        ({"edges": [[0, 1], [1, 2]], "weights": [1]}, "one weight for each of the 2 edges"),
        ({"edges": [[0, 1]], "negatives": [[0, 7]]}, r"edge 0: \(0, 7\)"),
        ({"edges": [[0, 1]], "groups": [0]}, "groups must be one integer for each of the 2 nodes"),
    ],
)
def test_wrong_edges_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_edges(**arguments)


def test_repairs_and_isolated_nodes_are_findings() -> None:
    graph = from_edges([[0, 1], [1, 0], [2, 2], [1, 3]], weights=[1, 2, 1, 0], n=5, negatives=[[0, 1], [0, 4]])
    text = "\n".join(graph.validate())
    for part in (
        "1 self loops",
        "at edge 2",
        "1 links of weight 0",
        "merged",
        "explicit negatives are also linked",
        "3 of 5 nodes",
        "2, 3, 4",
    ):
        assert part in text
    assert graph.weights([0, 1], [1, 0]).tolist() == [2, 2]


def test_validate_finds_broken_rows() -> None:
    indptr = np.array([0, 2, 3, 4])
    lopsided = EdgeLayer(np.array([0, 1, 1, 1]), np.array([1]))
    unsorted = EdgeLayer(indptr, np.array([2, 1, 0, 0]))
    loop = EdgeLayer(np.array([0, 1, 1, 1]), np.array([0]))
    weights = EdgeLayer(np.array([0, 1, 2, 2]), np.array([1, 0]), np.array([1, 2], dtype=np.float32))
    for layer, message in ((lopsided, "0 -> 1 has no way back"), (unsorted, "row 0 are not sorted"), (loop, "itself"), (weights, "0 -> 1")):
        assert message in "\n".join(RelationGraph(3, {"x": layer}).validate())
    assert "way back" not in "\n".join(RelationGraph(3, {"x": lopsided}, directed=True).validate())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EdgeLayer(np.array([0, 2]), np.array([0])), "both must agree"),
        (lambda: EdgeLayer(np.array([0, 1]), np.array([4])), "columns from 4"),
        (lambda: EdgeLayer(np.array([1, 1]), np.array([0])), "starts with 0"),
        (lambda: EdgeLayer(np.array([0, 1, 1]), np.array([1]), np.array([0.0])), "above 0"),
        (lambda: EdgeLayer(np.array([0, 1, 1]), np.array([1]), np.array([1.0, 1.0])), "one weight a link"),
        (lambda: BlockLayer(np.array([0, -2])), "node 1 has block -2"),
        (lambda: BlockLayer(np.array([0.5])), "signed integer"),
        (lambda: BlockLayer(np.array([2]), EdgeLayer(np.zeros(3, dtype=np.int64), np.zeros(0, dtype=np.int64))), "knows 2 blocks"),
        (lambda: RelationGraph(0, {}), "at least one node"),
        (lambda: RelationGraph(2, {}), "at least one layer"),
        (lambda: RelationGraph(2, {"a": BlockLayer(np.zeros(3, dtype=np.int64))}), "layer 'a' is about 3 nodes"),
        (lambda: from_edges([[0, 1]]).neighbors([2]), "id 2 .place 0. is not a node"),
        (lambda: from_edges([[0, 1]]).neighbors(np.array([0.5])), "must be integers"),
        (lambda: from_edges([[0, 1]]).weights([0], [0, 1]), "one length"),
        (lambda: from_edges([[0, 1]]).subgraph([0, 0]), "given twice"),
        (lambda: from_edges([[0, 1]]).subgraph(np.array([True])), "mask of nodes"),
        (lambda: from_edges([[0, 1]]).split(np.array([0])), "one integer for each"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize(
    ("weights", "message"), [({"edgse": 1.0}, "did you mean 'edges'"), ({"edges": 0.0}, "above 0"), ({"edges": np.nan}, "above 0")]
)
def test_layer_weights_are_checked(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RelationGraph(2, from_edges([[0, 1]]).layers, layer_weights=weights)


def test_graphs_import_no_torch() -> None:
    root = Path(__file__).resolve().parents[1]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import kinshot.kin.graph; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60).returncode == 0
