"""Meta-paths of a graph from its edges: who reaches whom by how many ways, and which neighbours are most alike."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import csr_array, diags_array

from kinshot.samples.meta_paths import Csr, Hop, MetaPath

Edges = Mapping[tuple[str, str], Any]
"""By the kinds of both ends: a sparse matrix of ones, rows nodes of the first kind and columns of the second."""


def meta_path(name: str, edges: Edges, neighbors: int) -> MetaPath:
    """The meta-path of that name, read letter by letter as kinds of nodes: there and back by the same kinds.

    Args:
        name: such as pap or apcpa.
        edges: one matrix for every step, in either direction.
        neighbors: how many of them each node keeps, itself among them, the most alike by PathSim; 0 keeps all.
    """
    steps = [edges[step] if step in edges else edges[step[1], step[0]].T.tocsr() for step in pairwise(name)]
    there, hops = steps[0], []
    for place, kind in enumerate(name[1:-1]):
        there = steps[0] if place == 0 else there @ steps[place]
        hops.append(Hop(kind, Csr.of(row_means(there))))
        if place == len(name) // 2 - 1:
            half = there
    block = blocks(half)
    if block is not None:
        return MetaPath(name, tuple(hops), block=block)
    ways = half @ half.T
    lonely = ways.diagonal() == 0
    ways = ways + diags_array(lonely.astype(np.float64))  # who reaches nobody is its own neighbour
    return MetaPath(name, tuple(hops), Csr.of(most_alike(ways.tocsr(), neighbors) if neighbors else ways))


def row_means(matrix: Any) -> Any:
    """The matrix with every row divided by its sum; rows of zeros stay so."""
    total = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    return diags_array(np.divide(1.0, total, out=np.zeros_like(total), where=total != 0)) @ matrix


def blocks(half: Any) -> np.ndarray | None:
    """Which nodes meet in the middle of a path, int32 (N,), where each of them gets there by one way alone; None where some have several.

    A node that gets nowhere is a block of its own. On such a path all neighbours of a node are equally alike, so that PathSim leaves
    none out.
    """
    matrix = half.tocsr()
    if matrix.nnz and (np.diff(matrix.indptr).max() > 1 or (matrix.data != 1).any()):
        return None
    middle = np.full(matrix.shape[0], -1, dtype=np.int64)
    rows, columns = matrix.nonzero()
    middle[rows] = columns
    lonely = np.flatnonzero(middle < 0)
    middle[lonely] = matrix.shape[1] + np.arange(len(lonely))
    return np.unique(middle, return_inverse=True)[1].astype(np.int32)


def most_alike(ways: Any, count: int) -> Any:
    """The entries of each row of highest PathSim, 2 A_ij / (A_ii + A_jj): so many, and all that are as alike as the last of them.

    Paper: Sun, Han, Yan, Yu, Wu 2011, PathSim: meta path-based top-k similarity search in heterogeneous information networks, VLDB.
    Departure from what public code does with it: where neighbours tie for the last place it keeps an arbitrary choice, here all stay.

    Args:
        ways: (N, N), a diagonal above 0.
        count: of each row, the node itself among them.
    """
    matrix = ways.tocsr()
    own = matrix.diagonal()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    alike = 2 * matrix.data / (own[rows] + own[matrix.indices])
    order = np.lexsort((-alike, rows))
    last = np.minimum(matrix.indptr[:-1] + count, matrix.indptr[1:]) - 1
    kept = alike >= alike[order][last][rows]
    return csr_array((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)


def incidence(pairs: np.ndarray, shape: tuple[int, int]) -> Any:
    """Edges int (2, E) as a sparse matrix of ones."""
    return csr_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=shape)


def neighbor_means(path: MetaPath, rows: Any) -> Any:
    """The mean of rows (N, F), sparse or not, over each node's neighbours by a path, each once and itself among them: (N, F)."""
    nodes = rows.shape[0]
    if path.ways is not None:
        return row_means(csr_array((np.ones(len(path.ways.values)), path.ways.indices, path.ways.indptr), shape=(nodes, nodes))) @ rows
    members = csr_array((np.ones(nodes), (np.arange(nodes), path.block)))
    return members @ (row_means(members.T.tocsr()) @ rows)
