"""What a graph promises before any training: agreement with labels, and links across splits.

All of it walks the links slice by slice and blocks as blocks; nothing compares all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kinshot.core.errors import DataError
from kinshot.kin.graph.block_layer import one_hot
from kinshot.kin.graph.csr import chunks
from kinshot.kin.graph.graph import RelationGraph

# Votes closer than this share of the largest are a tie: weights are rounded to float32.
TIE = 1e-6


@dataclass(frozen=True)
class Tally:
    """How the labelled neighbours of each labelled node vote, each with its link weight (summed over layers).

    Args:
        own: weight for the node's own label, float64 (n,).
        total: weight of all votes.
        top: weight for the label that got most.
        tied: how many labels got as much as that one.
        counted: whether the node has a label and a vote.
    """

    own: np.ndarray
    total: np.ndarray
    top: np.ndarray
    tied: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class Leakage:
    """Links between different parts of a split; nodes in no part (-1) are left out.

    Args:
        links: links across, an undirected one counted once, one in two layers twice.
        share: of all links between nodes that are in some part.
        nodes: nodes with a link across.
        layers: links across in each layer.
        between: links across for each pair of parts, as "0-1" (directed: from 0 to 1).
    """

    links: int
    share: float
    nodes: int
    layers: dict[str, int]
    between: dict[str, int]


def local_consistency(graph: RelationGraph, y: np.ndarray) -> float:
    """P_i[y_i = the label that i's neighbours vote for], over the nodes with a label and a labelled neighbour; NaN if none.

    Each neighbour votes with its link weight. Of k tied labels each counts 1/k: the expectation over breaking ties at random.
    If the graph is the radius graph of an embedding, this is the leave-one-out accuracy of a vote within that radius.
    Paper: McDermott, Yap, Szolovits, Zitnik, 2023, arXiv 2103.10334. Departure: shares for ties.

    Args:
        graph: who is kin.
        y: label of each node, int (n,), negative = missing.

    Raises:
        DataError: `y` is not one integer for each node.

    >>> graph = kinshot.kin.graph.from_edges(np.array([[0, 1], [1, 2], [0, 2], [2, 3]]), n=4)
    >>> kinshot.kin.graph.local_consistency(graph, np.array([0, 0, 0, 1]))
    0.75
    """
    return _consistency(tally(graph, y))


def homophily(graph: RelationGraph, y: np.ndarray) -> float:
    """Mean over nodes of the share of their neighbours (by link weight) that have their label; NaN if no node counts.

    It is how often a positive drawn along a link has its anchor's label. Nodes without label are left out on both sides.

    Args:
        graph: who is kin.
        y: label of each node, int (n,), negative = missing.

    Raises:
        DataError: `y` is not one integer for each node.

    >>> graph = kinshot.kin.graph.from_edges(np.array([[0, 1], [2, 3]]), n=4)
    >>> kinshot.kin.graph.homophily(graph, np.array([0, 0, 0, 1]))
    0.5
    """
    return _homophily(tally(graph, y))


def auroc_bound(graph: RelationGraph, y: np.ndarray) -> float:
    """LC+ * LC-, a lower bound on the AUROC of the score "share of my neighbours that are positive"; NaN if a class has no votes.

    LC+ is the share of positives (the larger label) with more than half of their votes positive, LC- that of negatives with
    more than half negative. The bound is loose, and for nodes that have neighbours.

    Args:
        graph: who is kin.
        y: two different labels, int (n,), negative = missing.

    Raises:
        DataError: `y` is not one integer for each node, or holds other than two labels.
    """
    labels, codes = _codes(graph, y)
    if len(labels) != 2:
        raise DataError(f"the AUROC bound is about two labels, got {len(labels)}")
    return _bound(tally(graph, y), codes)


def leakage(graph: RelationGraph, part: np.ndarray) -> Leakage:
    """Links between the parts of a split, such as training and test.

    Args:
        graph: who is kin.
        part: part of each node, int (n,), negative = in none.

    Raises:
        DataError: `part` is not one integer for each node.
    """
    names, codes = _codes(graph, part)
    onehot = one_hot(codes, len(names))
    concerned = np.zeros(graph.n, dtype=bool)
    layers, between, inside = {}, np.zeros((len(names), len(names))), 0.0
    for name, layer in graph.layers.items():
        matrix = np.zeros_like(between)
        voter = layer.voter(codes, len(names), weighted=False)
        for start, stop in chunks(layer.cost(len(names)) + 1):
            votes = voter(start, stop)
            matrix += (onehot[start:stop].T @ votes).toarray()
            row, other = np.repeat(np.arange(start, stop), np.diff(votes.indptr)), votes.indices
            concerned[row[(codes[row] >= 0) & (codes[row] != other) & (votes.data > 0)]] = True
        inside += matrix.sum()
        np.fill_diagonal(matrix, 0)
        layers[name] = round(float(matrix.sum())) // (1 if graph.directed else 2)
        between += matrix
    total, across = inside / (1 if graph.directed else 2), sum(layers.values())
    pairs = {f"{names[a]}-{names[b]}": round(float(between[a, b])) for a, b in np.argwhere(between) if graph.directed or a < b}
    return Leakage(across, float(across / total) if total else 0.0, int(concerned.sum()), layers, pairs)


def tally(graph: RelationGraph, y: np.ndarray) -> Tally:
    """The votes of all neighbourhoods on labels y (n,); see `Tally`.

    Raises:
        DataError: `y` is not one integer for each node.
    """
    labels, codes = _codes(graph, y)
    own, total, top = (np.zeros(graph.n) for _ in range(3))
    tied = np.zeros(graph.n, dtype=np.int32)
    for start, stop, votes in _votes(graph, codes, len(labels)):
        row = np.repeat(np.arange(start, stop), np.diff(votes.indptr))
        mine = votes.indices == codes[row]
        own[row[mine]] = votes.data[mine]
        total[start:stop] = np.bincount(row - start, votes.data, stop - start)
        filled = np.flatnonzero(np.diff(votes.indptr))
        if len(filled):
            top[start + filled] = np.maximum.reduceat(votes.data, votes.indptr[filled])
        tied[start:stop] = np.bincount(row - start, votes.data >= top[row] * (1 - TIE), stop - start)
    return Tally(own, total, top, tied, (codes >= 0) & (total > 0))


def describe(
    graph: RelationGraph, labels: Mapping[str, np.ndarray] | None = None, splits: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """All diagnostics as plain values that JSON can hold (a figure without sense is None).

    Args:
        graph: who is kin.
        labels: label of each node by name, negative = missing.
        splits: part of each node by name, negative = in none.

    Raises:
        DataError: labels or parts that are not one integer for each node; names them.
    """
    count, component = graph.components()
    sizes = np.bincount(component, minlength=count)
    described: dict[str, Any] = {
        "nodes": graph.n,
        "directed": graph.directed,
        "layers": {name: layer.describe() | {"weight": graph.layer_weights[name]} for name, layer in graph.layers.items()},
        "negatives": 0 if graph.negatives is None else graph.negatives.entries(),
        "groups": 0 if graph.groups is None else len(np.unique(graph.groups[graph.groups >= 0])),
        "degrees": asdict(graph.degree_stats()),
        "components": {"count": count, "largest": int(sizes.max()), "single": int((sizes == 1).sum())},
        "findings": graph.validate(),
    }
    described["labels"] = {name: _named(name, lambda y=y: describe_labels(graph, y)) for name, y in (labels or {}).items()}
    described["splits"] = {name: _named(name, lambda part=part: asdict(leakage(graph, part))) for name, part in (splits or {}).items()}
    return described


def describe_labels(graph: RelationGraph, y: np.ndarray) -> dict[str, Any]:
    """Agreement of a graph with labels y (n,), beside what labels alone would give.

    `chance` is the homophily of links drawn at random, `majority` the share of the most frequent label.

    Raises:
        DataError: `y` is not one integer for each node.
    """
    labels, codes = _codes(graph, y)
    votes = tally(graph, y)
    shares = np.bincount(codes[codes >= 0], minlength=max(len(labels), 1)) / max((codes >= 0).sum(), 1)
    return {
        "classes": len(labels),
        "labelled": int((codes >= 0).sum()),
        "counted": int(votes.counted.sum()),
        "local_consistency": _plain(_consistency(votes)),
        "homophily": _plain(_homophily(votes)),
        "auroc_bound": _plain(_bound(votes, codes)) if len(labels) == 2 else None,
        "chance": float((shares**2).sum()),
        "majority": float(shares.max()),
    }


def _votes(graph: RelationGraph, codes: np.ndarray, classes: int) -> Iterator[tuple[int, int, Any]]:
    """Votes of slices of rows: (start, stop, sparse (stop - start, classes))."""
    voters = [(graph.layer_weights[name], layer.voter(codes, classes, weighted=True)) for name, layer in graph.layers.items()]
    cost = sum((layer.cost(classes) for layer in graph.layers.values()), np.ones(graph.n, dtype=np.int64))
    for start, stop in chunks(cost):
        votes = sum((voter(start, stop) * weight for weight, voter in voters[1:]), voters[0][1](start, stop) * voters[0][0])
        yield start, stop, votes.tocsr()


def _consistency(votes: Tally) -> float:
    at = votes.counted
    return _mean(np.where(votes.own[at] >= votes.top[at] * (1 - TIE), 1 / votes.tied[at], 0.0))


def _homophily(votes: Tally) -> float:
    return _mean(votes.own[votes.counted] / votes.total[votes.counted])


def _bound(votes: Tally, codes: np.ndarray) -> float:
    most = votes.own > votes.total * (0.5 + TIE)
    return _mean(most[votes.counted & (codes == 1)]) * _mean(most[votes.counted & (codes == 0)])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value


def _codes(graph: RelationGraph, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, sorted, and their numbers for each node (n,), -1 where missing."""
    y = np.asarray(y)
    if y.shape != (graph.n,) or y.dtype.kind not in "iu":
        raise DataError(f"labels must be one integer for each of the {graph.n} nodes, got {y.dtype} of shape {y.shape}")
    known = y >= 0
    labels, inverse = np.unique(y[known], return_inverse=True)
    codes = np.full(graph.n, -1, dtype=np.int32)
    codes[known] = inverse
    return labels, codes


def _named(name: str, work: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = work()
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    return found
