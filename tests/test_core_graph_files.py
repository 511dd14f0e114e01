"""Graphs from files: every form read alike, errors that name the line or the edge, nothing executed."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.io import mmread, mmwrite

from kinshot.core.errors import DataError
from kinshot.kin.graph import read_graph
from kinshot.kin.graph.matrix_market import read_matrix_market
from tests.reference_graph import dense_of

EDGES = np.array([[0, 1], [1, 2], [3, 1]])
WEIGHTS = np.array([1.0, 0.5, 2.0])
PLAIN = np.zeros((4, 4))
WEIGHTED = np.zeros((4, 4))
for (A, B), W in zip(EDGES, WEIGHTS, strict=True):
    PLAIN[A, B] = PLAIN[B, A] = 1
    WEIGHTED[A, B] = WEIGHTED[B, A] = W


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "0,1\n1,2\n3,1\n", PLAIN),
        ("a.csv", "source,target\n0,1\n1,2\n3,1\n", PLAIN),
        ("a.csv", "\ufefffrom, to ,weight\r\n# a remark\r\n0,1,1\r\n\r\n1, 2, .5\r\n3,1,2e0\r\n", WEIGHTED),
        ("a.tsv", "0\t1\n1\t2\n3\t1", PLAIN),
        ("a.tsv", "node a\tnode b\tw\n0\t1\t1\n1\t2\t0.5\n3\t1\t2\n", WEIGHTED),
        ("a.txt", "# SNAP style\n0 1\n1   2\n3\t1\n", PLAIN),
        ("a.CSV", "0,1\n1,2\n3,1\n", PLAIN),
    ],
)
def test_text(tmp_path: Path, name: str, text: str, expected: np.ndarray) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert np.array_equal(dense_of(read_graph(tmp_path / name)), expected)
    assert read_graph(str(tmp_path / name), n=9).n == 9
    assert np.array_equal(dense_of(read_graph(tmp_path / name, directed=True)), expected * directions())


def directions() -> np.ndarray:
    found = np.zeros((4, 4))
    found[EDGES[:, 0], EDGES[:, 1]] = 1
    return found


def test_arrays(tmp_path: Path) -> None:
    for edges in (EDGES, EDGES.T, EDGES.astype(np.int32)):
        np.save(tmp_path / "a.npy", edges)
        assert np.array_equal(dense_of(read_graph(tmp_path / "a.npy")), PLAIN)
    np.savez(tmp_path / "a.npz", edges=EDGES, weights=WEIGHTS, n=6, negatives=[[0, 5]], directed=True, groups=np.arange(6))
    graph = read_graph(tmp_path / "a.npz")
    assert (graph.n, graph.directed) == (6, True)
    assert np.array_equal(dense_of(graph)[:4, :4], WEIGHTED * directions())
    assert graph.groups is not None
    assert (graph.sample_negatives(np.array([0]), 3, np.random.default_rng(0), "explicit") == 5).all()
    assert not read_graph(tmp_path / "a.npz", directed=False).directed
    np.savez_compressed(tmp_path / "b.npz", edges=EDGES)
    assert np.array_equal(dense_of(read_graph(tmp_path / "b.npz")), PLAIN)


def test_matrix_market(tmp_path: Path) -> None:
    mmwrite(tmp_path / "a.mtx", sp.coo_array(WEIGHTED))
    assert np.array_equal(dense_of(read_graph(tmp_path / "a.mtx")), WEIGHTED)
    mmwrite(tmp_path / "b.mtx", sp.coo_array(WEIGHTED * directions()))
    assert np.array_equal(dense_of(read_graph(tmp_path / "b.mtx")), WEIGHTED)
    assert np.array_equal(dense_of(read_graph(tmp_path / "b.mtx", directed=True)), WEIGHTED * directions())
    with pytest.raises(DataError, match="has 4 nodes, asked for were 5"):
        read_graph(tmp_path / "a.mtx", n=5)


RING = np.zeros((4, 4))
for A, B in ((0, 2), (2, 1), (1, 3)):
    RING[A, B] = 1


@pytest.mark.parametrize(
    "text",
    [
        "source,target\n0,2\n2,1\n1,3\n",
        "target,source\n2,0\n1,2\n3,1\n",
        "weight,source,target\n1,0,2\n1,2,1\n1,1,3\n",
        "To,W,From\n2,1,0\n1,1,2\n3,1,1\n",
        "von,nach\n0,2\n2,1\n1,3\n",
        '"target","to be found by"\n"2","0"\n1,2\n3,1\n',
        "von,weight,nach\n0,1,2\n2,1,1\n1,1,3\n",
        "0,2\n2,1\n1,3\n",
    ],
)
def test_names_in_the_first_line_decide_and_not_the_order(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    graph = read_graph(tmp_path / "a.csv", directed=True)
    assert np.array_equal(dense_of(graph), RING)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", ",source,target\n0,0,2\n1,2,1\n", "cannot tell what column '' .*index=False"),
        ("a.csv", "Unnamed: 0,source,target\n0,0,2\n1,2,1\n", "'Unnamed: 0' .*index=False"),
        ("a.csv", ",edge\n0,2\n", "cannot tell"),
        ("a.csv", "id,source,target\n0,0,2\n", "what column 'id' of 'id', 'source', 'target' is"),
        ("a.csv", "a,b,c\n0,0,2\n", "what column 'a', 'b', 'c' of"),
        ("a.csv", "from,source\n0,2\n", "both the source"),
        ("a.csv", "a,b\n0,2,1\n", "names 2 columns, the lines after it have 3"),
        ("a.csv", "0,0,5\n1,5,9\n2,9,0\n", "counts the lines"),
        ("a.csv", "source;target\n0;2\n", "separated by semicolons"),
        ("a.csv", "0;2\n", "separated by semicolons"),
        ("a.csv", "source\ttarget\n0\t2\n", "separated by tabs"),
        ("a.tsv", "source,target\n0,2\n", "separated by commas"),
        ("a.csv", "0,1\n1_0,2\n", "line 2: '1_0' is not a number"),
        ("a.csv", "0,1\n\u0661,2\n", "line 2: '\u0661' is not a number"),
        ("a.csv", "0,1\n100000000000,2\n", "100000000001 nodes for 2 edges"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_graph(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_path_with_weights_is_not_taken_for_an_index(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,1,1\n1,2,1\n2,3,1\n")
    assert read_graph(tmp_path / "a.csv").n == 4
    (tmp_path / "a.csv").write_text("0,1,0.5\n1,2,1\n2,3,1\n")
    assert dense_of(read_graph(tmp_path / "a.csv"))[0, 1] == 0.5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a,b\n0,1\n# x\n1,x\n", "a.csv line 4: 'x' is not a number"),
        ("a.csv", "a,1\n0,1\n", "a.csv line 1: 'a' is not a number"),
        ("a.csv", "0,1\n\n1.5,2\n", "a.csv line 3: .* 1.5 is not a whole number"),
        ("a.csv", "0,1\n0,-1\n", "a.csv line 2: .* id -1 is not a node"),
        ("a.csv", "s,t,w\n0,1,1\n1,2,nan\n", "a.csv line 3: weight nan"),
        ("a.csv", "s,t,w\n0,1,1\n1,2,-1\n", "a.csv line 3: weight -1.0"),
        ("a.csv", "0,1\n1,2,3\n", "a.csv line 2 has 3 columns, lines before it have 2"),
        ("a.csv", "0,1,2,3\n", "4 columns"),
        ("a.csv", "0\n1\n", "1 columns"),
        ("a.csv", "source,target\n", "empty"),
        ("a.csv", "", "empty"),
        ("a.tsv", "0\t1\n1 2\n", "a.tsv line 2"),
        ("a.csv", '__import__("os"),1\n0,1\n', "line 1: .* is not a number"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_wrong_lines_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_graph(tmp_path / name)


def test_ids_past_n_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("s,t\n0,1\n1,7\n")
    with pytest.raises(DataError, match=r"line 3: \(1.*, 7.*\): id 7.* is not a node; ids go from 0 to 2"):
        read_graph(tmp_path / "a.csv", n=3)


class Bomb:
    """An object that does something when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.abort, ()


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz_bytes(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def archive(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "not a readable .npy"),
        ("a.npy", b"garbage", "not a readable .npy"),
        ("a.npy", npy_bytes(EDGES)[:-5], "not a readable .npy"),
        ("a.npy", npy_bytes(np.array([Bomb(), Bomb()], dtype=object)), "not a readable .npy"),
        ("a.npy", npz_bytes(edges=EDGES), "archive"),
        ("a.npy", npy_bytes(np.array([[0, 1], [2, -3]])), r"a.npy: edge 1: \(2, -3\)"),
        ("a.npz", b"PK\x03\x04rest", "not a readable .npz"),
        ("a.npz", b"", "not a readable .npz"),
        ("a.npz", npy_bytes(EDGES), "not a readable .npz"),
        ("a.npz", npz_bytes(edges=EDGES)[:-60], "not a readable .npz"),
        ("a.npz", archive({"edges.npy": npy_bytes(np.array([Bomb()], dtype=object))}), "not a readable .npz"),
        ("a.npz", archive({"edges": b"text"}), "edges must|readable"),
        ("a.npz", npz_bytes(weights=WEIGHTS), "lacks the array 'edges'"),
        ("a.npz", npz_bytes(edges=EDGES, weight=WEIGHTS), "did you mean 'weights'"),
        ("a.npz", npz_bytes(edges=EDGES, weights=WEIGHTS[:2]), "one weight for each of the 3 edges"),
        ("a.npz", npz_bytes(edges=EDGES, n=3), r"a.npz: edge 2: \(3, 1\): id 3"),
        ("a.npz", npz_bytes(edges=EDGES, n=[3, 4]), "'n' must be one whole number"),
        ("a.npz", npz_bytes(edges=EDGES, n=4.5), "'n' must be one whole number"),
        ("a.npz", npz_bytes(edges=EDGES, n="four"), "'n' must be one whole number"),
        ("a.mtx", b"not a matrix\n", "Matrix Market"),
        ("a.mtx", b"%%MatrixMarket matrix coordinate real general\n2 2 1\n5 1 1.0\n", "Matrix Market"),
        ("a.mtx", b"%%MatrixMarket matrix coordinate real general\n2 3 1\n1 1 1.0\n", "square"),
        ("a.mtx", b"%%MatrixMarket matrix coordinate real general\n2 2 1\n1 2 -1.0\n", "edge 0: weight -1.0"),
        ("a.json", b"{}", "graphs are read from .csv"),
        ("graph", b"", "files without ending"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_graph(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("field", ["real", "integer", "pattern"])
@pytest.mark.parametrize("symmetry", ["general", "symmetric"])
def test_matrix_market_as_scipy_reads_it(tmp_path: Path, field: str, symmetry: str) -> None:
    entries = np.random.default_rng(0).integers(0, 4, (7, 7)) * (np.random.default_rng(1).random((7, 7)) < 0.4)
    matrix = entries + entries.T if symmetry == "symmetric" else entries
    mmwrite(tmp_path / "a.mtx", sp.coo_array(matrix), field=field, symmetry=symmetry, comment="two\nlines")
    assert np.array_equal(read_matrix_market(tmp_path / "a.mtx").toarray(), mmread(tmp_path / "a.mtx").toarray())
    if field != "pattern":
        mmwrite(tmp_path / "b.mtx", matrix, field=field, symmetry=symmetry)
        assert np.array_equal(read_matrix_market(tmp_path / "b.mtx").toarray(), mmread(tmp_path / "b.mtx"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%%MatrixMarket matrix coordinate real general\n4 4 3\n1 2 1.0\n2 3 2.0\n4 1 0.5null", "0.5null"),
        ("%%MatrixMarket matrix coordinate real general\n4 4 3\n1 2 1.0\n2 3 2.0\n4 1", "3 entries of 3 numbers and holds 8"),
        ("%%MatrixMarket matrix coordinate real general\n4 4 999999999999999\n1 2 1.0\n", "holds 3 numbers"),
        ("%%MatrixMarket matrix array real general\n999999999 999999999\n1\n", "holds 1"),
        ("%%MatrixMarket matrix coordinate real general\n4 4\n", "expected rows, columns and entries"),
        ("%%MatrixMarket matrix coordinate real general\n", "expected rows"),
        ("%%MatrixMarket matrix coordinate complex general\n1 1 0\n", "no adjacency"),
        ("%%MatrixMarket matrix coordinate real general\n4 4 1\n1.5 2 1\n", "outside"),
        ("%%MatrixMarket matrix coordinate real general\n4 4 1\nnan 2 1\n", "outside"),
        ("%%MatrixMarket matrix coordinate real general\n999999999 999999999 1\n1 2 1\n", "999999999 nodes for 1 edges"),
    ],
)
def test_damaged_matrix_market_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.mtx").write_text(text)
    with pytest.raises(DataError, match=message):
        read_graph(tmp_path / "a.mtx")


@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.npz", "a.mtx"])
def test_pipes_are_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="is a pipe, expected a regular file"):
        read_graph(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.npz", "a.mtx"])
def test_missing_files_and_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=name):
        read_graph(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=name):
        read_graph(tmp_path / name)
