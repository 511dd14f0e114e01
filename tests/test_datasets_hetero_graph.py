"""Graphs of several kinds of nodes: what is read of a file, PathSim and meta-paths against loops, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.hetero_graph import NodeSource
from kinshot.datasets.path_sim import most_alike, neighbor_means
from kinshot.samples.meta_paths import Csr, MetaPaths
from tests.graph_trees import AUTHORS, PAPERS, SUBJECTS, VENUES, WORDS, graph_arrays, write_graph

ACM = Path(__file__).resolve().parents[2] / "shared" / "data" / "acm_graph.npz"


def build(path: Path, **settings: Any) -> NodeSource:
    return SOURCES.build("hetero_graph", settings={"root": str(path), **settings})  # type: ignore[return-value]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "papers.npz")


def dense(matrix: Csr) -> np.ndarray:
    return matrix.dense(np.arange(matrix.rows)).astype(np.float64)


def edges(name: str, rows: int, columns: int) -> np.ndarray:
    found = np.zeros((rows, columns))
    for one, two in graph_arrays()[name].T:
        found[one, two] = 1
    return found


def ways(half: np.ndarray) -> np.ndarray:
    """By how many ways every node reaches every other, itself at least once."""
    found = np.zeros((len(half), len(half)))
    for i in range(len(half)):
        for j in range(len(half)):
            for middle in range(half.shape[1]):
                found[i, j] += half[i, middle] * half[j, middle]
        found[i, i] = found[i, i] or 1
    return found


def test_what_the_file_says(file: Path) -> None:
    source = build(file)
    assert (source.kind, source.shape, len(source)) == ("node", (1,), PAPERS)
    assert source.labels is not None
    assert source.labels.tolist() == graph_arrays()["labels"].tolist()
    assert source.load([5, 0]).tolist() == [[5], [0]]
    assert sorted(source.lists) == [1, 2]
    assert source.lists[2].train.tolist() == graph_arrays()["train_2"].tolist()
    words = graph_arrays()["feat_p"]
    torch.testing.assert_close(source.spec.raw(source.load(range(PAPERS))), torch.tensor(words / words.sum(1, keepdims=True)))
    unscaled = build(file, scale="none")
    torch.testing.assert_close(unscaled.spec.raw(unscaled.load([3])), torch.tensor(words[3:4]))


def test_sparse_features_are_those_of_a_matrix(file: Path, tmp_path: Path) -> None:
    from scipy.sparse import csr_array

    rows = csr_array(graph_arrays()["feat_p"])
    parts = {f"feat_p_{name}": getattr(rows, name) for name in ("data", "indices", "indptr")}
    sparse = write_graph(tmp_path / "sparse.npz", feat_p=None, feat_p_shape=np.array(rows.shape), **parts)
    assert build(sparse).fingerprint() == build(file).fingerprint()


def test_meta_paths_against_loops(file: Path) -> None:
    graph = build(file).paths
    authors, subjects, venues = edges("edges_pa", PAPERS, AUTHORS), edges("edges_ps", PAPERS, SUBJECTS), edges("edges_av", AUTHORS, VENUES)
    pap, psp, pavap = graph.paths
    assert pap.ways is not None
    assert np.array_equal(dense(pap.ways), ways(authors))
    assert pavap.ways is not None
    assert np.array_equal(dense(pavap.ways), ways(authors @ venues))
    assert psp.ways is None
    assert psp.block is not None
    assert np.array_equal(psp.block[:, None] == psp.block, ways(subjects) > 0)
    assert [[hop.kind for hop in path.hops] for path in graph.paths] == [["a"], ["s"], ["a", "v", "a"]]
    reached = [authors, subjects, authors, authors @ venues, authors @ venues @ venues.T]
    for hop, found in zip([hop for path in graph.paths for hop in path.hops], reached, strict=True):
        for row, counts in zip(dense(hop.mean), found, strict=True):
            expected = counts / counts.sum() if counts.sum() else counts
            np.testing.assert_allclose(row, expected, atol=1e-7)
    assert graph.others == {"a": AUTHORS, "s": SUBJECTS, "v": VENUES}


def test_averaged_kinds_have_the_mean_of_their_target_nodes(file: Path) -> None:
    graph = build(file, averaged=("a",)).paths
    authors = edges("edges_pa", PAPERS, AUTHORS)
    found = graph.others["a"]
    assert isinstance(found, Csr)
    np.testing.assert_allclose(dense(found), authors.T / np.maximum(authors.sum(0)[:, None], 1), atol=1e-7)
    assert graph.derived == ("a",)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_path_sim_against_a_loop(count: int) -> None:
    """The most alike of each row, and all that tie with the last of them."""
    from scipy.sparse import csr_array

    matrix = ways(edges("edges_pa", PAPERS, AUTHORS))
    expected = np.zeros_like(matrix)
    for i in range(len(matrix)):
        alike = [2 * matrix[i, j] / (matrix[i, i] + matrix[j, j]) if matrix[i, j] else -1.0 for j in range(len(matrix))]
        last = sorted(alike, reverse=True)[min(count, len(matrix)) - 1]
        for j in range(len(matrix)):
            if matrix[i, j] and alike[j] >= last:
                expected[i, j] = matrix[i, j]
    assert np.array_equal(most_alike(csr_array(matrix), count).toarray(), expected)
    assert (expected.diagonal() > 0).all()


def test_neighbors_limits_every_path(file: Path) -> None:
    pap, psp, _ = build(file, neighbors=(2, 2, 0)).paths.paths
    whole = build(file).paths.paths[0]
    assert pap.ways is not None
    assert whole.ways is not None
    assert len(pap.ways.values) < len(whole.ways.values)
    assert psp.block is not None, "all papers of a subject tie, so that they stay a block"


def test_neighbor_means_against_a_loop(file: Path) -> None:
    source = build(file)
    rows = np.random.default_rng(0).normal(size=(PAPERS, 5))
    for path, half in zip(source.paths.paths, (edges("edges_pa", PAPERS, AUTHORS), edges("edges_ps", PAPERS, SUBJECTS)), strict=False):
        met = ways(half) > 0
        np.testing.assert_allclose(neighbor_means(path, rows), np.stack([rows[near].mean(0) for near in met]), atol=1e-12)


def test_a_graph_is_known_by_its_content(file: Path, tmp_path: Path) -> None:
    one, two = build(file), build(write_graph(tmp_path / "other.npz", edges_ps=graph_arrays(1)["edges_ps"]))
    assert one.fingerprint() != two.fingerprint()
    assert one.digests([0])[0] != two.digests([0])[0]
    with pytest.raises(DataError, match="is another graph than the encoder was made for"):
        one.spec.check_source(two)
    described = MetaPaths.blank(one.paths.described())
    assert described.described() == one.paths.described()
    assert described.digest != one.paths.digest


NAN = np.full((PAPERS, WORDS), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"feat_p": NAN}, "feat_p has values that are no numbers"),
        ({"feat_p": None}, "feat_p is missing"),
        ({"feat_p": np.ones((3, 2))}, r"feat_p is \(3, 2\), expected a row for each of 24 p"),
        ({"edges_pa": np.array([[0, PAPERS], [1, 1]])}, "edges_pa: edge 1 has p 24, and there are p 0 to 23"),
        ({"edges_pa": np.array([[0], [-1]])}, "edge 0 has a -1"),
        ({"edges_pa": np.array([[0, 0], [1, 1]])}, "lists 1 edges twice"),
        ({"edges_pa": np.zeros((2, 3))}, "edges_pa must be whole numbers"),
        ({"edges_pa": None}, "metapath: .* no edges between p and a"),
        ({"metapath": np.array(["apa"])}, "metapath: .*must lead from p"),
        ({"metapath": None}, "metapath is missing"),
        ({"labels": np.zeros(5, int)}, "labels must be 24 numbers"),
        ({"labels": np.full(PAPERS, -1)}, "labels must be 24 numbers from 0 on"),
        ({"train_1": np.array([99])}, "must be numbers of nodes from 0 to 23"),
        ({"train_1": np.arange(6)}, "have nodes in common"),
        ({"val_1": None}, "val_1 is missing"),
        ({"node_count": np.array([24, 10])}, "node_type must be different letters"),
        ({"target_type": np.array("x")}, "target_type is 'x'"),
        ({"feat_p": None, "feat_p_data": np.ones(2), "feat_p_indices": np.array([0, 99]), "feat_p_indptr": np.r_[0, np.full(PAPERS, 2)],
          "feat_p_shape": np.array([PAPERS, 3])}, "feat_p is no sparse matrix"),
    ],
)  # fmt: skip
def test_files_that_are_not_of_the_layout_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        build(write_graph(tmp_path / "wrong.npz", **changed))
    assert "wrong.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": ("pxp",)}, "no meta-path 'pxp'"),
        ({"paths": ("pa",)}, "must lead from p"),
        ({"paths": ("pvp",)}, "no edges between p and v"),
        ({"paths": ("pap", "pap")}, "names one twice"),
        ({"neighbors": (3,)}, "give a number from 0 on for each of pap, psp, pavap"),
        ({"averaged": ("x",)}, "averaged names 'x'"),
        ({"averaged": ("v",)}, "no edges between v and p"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str, file: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        build(file, **settings)


def test_features_below_zero_have_no_sum_to_divide_by(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "negative.npz", feat_p=-graph_arrays()["feat_p"])
    with pytest.raises(ConfigError, match="set scale=none"):
        build(path)
    assert len(build(path, scale="none")) == PAPERS


def test_a_graph_without_labels_can_be_trained_on(tmp_path: Path) -> None:
    assert build(write_graph(tmp_path / "bare.npz", labels=None)).labels is None


@pytest.mark.skipif(not ACM.is_file(), reason="needs acm_graph.npz in ../shared/data")
def test_acm_has_as_many_neighbors_as_are_published() -> None:
    pap, psp = build(ACM, averaged=("a",)).paths.paths
    assert pap.ways is not None
    assert psp.block is not None
    assert len(pap.ways.values) == 57_853
    assert (np.bincount(psp.block) ** 2).sum() == 4_338_213
