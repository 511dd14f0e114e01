"""Graphs from lists of edges, sparse matrices and networkx."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.kin.graph.edges import check_edges
from kinshot.kin.graph.graph import RelationGraph


def from_edges(
    edges: Any,
    weights: Any = None,
    n: int | None = None,
    directed: bool = False,
    relation: str = "edges",
    negatives: Any = None,
    *,
    groups: Any = None,
    self_loops: Literal["drop", "error"] = "drop",
) -> RelationGraph:
    """The graph of a list of edges.

    Args:
        edges: ids, (m, 2) or (2, m): an array, a tensor on the CPU or lists; 2 x 2 is read as two edges in rows.
        weights: one number >= 0 for each edge; 0 is no link. Of an edge given more than once the largest weight stays.
        n: number of nodes; one more than the largest id when not given.
        directed: edges lead from the first id to the second only.
        relation: name of the layer.
        negatives: pairs known to be strangers, like `edges`.
        groups: group of each node, int (n,), -1 = none.
        self_loops: "drop" (`validate` reports them) or "error".

    Raises:
        DataError: edges, weights or groups that are wrong; names the edge.

    >>> kinshot.kin.graph.from_edges(np.array([[0, 1], [1, 2]]), weights=np.array([1.0, 0.5]), n=4)
    RelationGraph(4 nodes, undirected entries {edges: 4})
    """
    checked = check_edges(edges, weights, n, self_loops)
    opposed = None if negatives is None else check_edges(negatives, None, checked.n, self_loops).layer(directed=directed)
    known = None if groups is None else np.asarray(groups)
    return RelationGraph(checked.n, {relation: checked.layer(directed=directed)}, negatives=opposed, groups=known, directed=directed)


def from_scipy(
    matrix: Any, directed: bool = False, relation: str = "edges", *, self_loops: Literal["drop", "error"] = "drop"
) -> RelationGraph:
    """The graph of a sparse adjacency matrix (n, n); weights that are all 1 are not stored.

    Args:
        matrix: any scipy sparse matrix or array; an entry of an undirected graph may stand on either or both sides.
        directed: row i leads to column j only.
        relation: name of the layer.
        self_loops: "drop" or "error".

    Raises:
        DataError: not square, or weights that are wrong; names the entry.
    """
    if getattr(matrix, "ndim", 0) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"an adjacency matrix must be square, got shape {getattr(matrix, 'shape', None)}")
    entries = matrix.tocoo()
    weights = None if (entries.data == 1).all() else entries.data
    edges = np.stack([entries.row, entries.col])
    # a 2 x 2 array would be read as rows of one edge each
    return from_edges(edges if edges.shape[1] != 2 else edges.T, weights, matrix.shape[0], directed, relation, self_loops=self_loops)


def from_networkx(
    graph: Any, weight: str | None = "weight", relation: str = "edges", *, self_loops: Literal["drop", "error"] = "drop"
) -> RelationGraph:
    """The graph of a networkx graph, directed if that one is.

    Nodes named 0 .. n - 1 keep their numbers; all others are numbered in the order of `graph.nodes`.

    Args:
        graph: a networkx Graph, DiGraph or multigraph.
        weight: edge attribute with the weight, 1 where an edge lacks it; none ignores weights.
        relation: name of the layer.
        self_loops: "drop" or "error".

    Raises:
        DataError: no node, or weights that are wrong; names the edge.
    """
    names = list(graph.nodes)
    plain = all(isinstance(name, int | np.integer) for name in names) and sorted(names) == list(range(len(names)))
    number = {name: name if plain else place for place, name in enumerate(names)}
    edges = np.array([(number[a], number[b]) for a, b in graph.edges()], dtype=np.int64).reshape(-1, 2)
    weights = None
    if weight is not None:
        values = [value for _, _, value in graph.edges(data=weight)]
        if any(value is not None for value in values):
            weights = [1.0 if value is None else value for value in values]
    return from_edges(edges, weights, len(names), graph.is_directed(), relation, self_loops=self_loops)
