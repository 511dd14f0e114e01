"""Random relation graphs with their dense adjacency, and slow dense references."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from kinshot.kin.graph import BlockLayer, EdgeLayer, RelationGraph, from_edges


@dataclass(frozen=True)
class Case:
    """A graph and what it must be: `weights` float64 (n, n), 0 = not linked; `layers` the same for each layer."""

    graph: RelationGraph
    weights: np.ndarray
    layers: dict[str, np.ndarray]

    @property
    def linked(self) -> np.ndarray:
        return self.weights > 0

    @property
    def n(self) -> int:
        return self.graph.n


def edge_layer(pairs: list[tuple[int, int]], n: int, weights: list[float] | None = None, directed: bool = False) -> EdgeLayer:
    layer = from_edges(np.array(pairs, dtype=np.int64).reshape(-1, 2), weights, n, directed).layers["edges"]
    assert isinstance(layer, EdgeLayer)
    return layer


@st.composite
def edge_layers(draw: st.DrawFn, n: int, directed: bool) -> tuple[EdgeLayer, np.ndarray]:
    pairs = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=2 * n))
    weights = draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]), min_size=len(pairs), max_size=len(pairs)))
    dense = np.zeros((n, n))
    for (a, b), weight in zip(pairs, weights or [1.0] * len(pairs), strict=True):
        if a != b:
            dense[a, b] = max(dense[a, b], weight)
            if not directed:
                dense[b, a] = max(dense[b, a], weight)
    return edge_layer(pairs, n, weights, directed), dense


@st.composite
def block_layers(draw: st.DrawFn, n: int) -> tuple[BlockLayer, np.ndarray]:
    blocks = draw(st.integers(1, 4))
    block = np.array(draw(st.lists(st.integers(-1, blocks - 1), min_size=n, max_size=n)))
    near = draw(st.none() | st.lists(st.tuples(st.integers(0, blocks - 1), st.integers(0, blocks - 1)), max_size=blocks))
    adjacency = None if near is None else edge_layer(near, blocks)
    linked = np.eye(blocks, dtype=bool)
    for a, b in near or []:
        linked[a, b] = linked[b, a] = True
    dense = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            dense[i, j] = i != j and block[i] >= 0 and block[j] >= 0 and linked[block[i], block[j]]
    return BlockLayer(block, adjacency), dense


@st.composite
def cases(draw: st.DrawFn, most: int = 9, groups: bool = False, one_layer: bool = False, undirected: bool = False) -> Case:
    n = draw(st.integers(1, most))
    directed = False if undirected else draw(st.booleans())
    drawn = draw(st.lists(edge_layers(n, directed) | block_layers(n), min_size=1, max_size=1 if one_layer else 3))
    factors = {f"l{i}": draw(st.sampled_from([0.5, 1.0, 2.0])) for i in range(len(drawn))}
    group = np.array(draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))) if groups else None
    layers = {f"l{i}": layer for i, (layer, _) in enumerate(drawn)}
    dense = {f"l{i}": matrix * factors[f"l{i}"] for i, (_, matrix) in enumerate(drawn)}
    graph = RelationGraph(n, layers, layer_weights=factors, groups=group, directed=directed)
    return Case(graph, np.sum(list(dense.values()), axis=0), dense)


def within(linked: np.ndarray, hops: int) -> np.ndarray:
    """Which nodes are within so many hops, itself left out: bool (n, n)."""
    reached = np.eye(len(linked), dtype=bool)
    for _ in range(hops):
        reached |= (reached.astype(int) @ linked.astype(int)) > 0
    return reached & ~np.eye(len(linked), dtype=bool)


def dense_of(graph: RelationGraph) -> np.ndarray:
    """The weights (n, n) that `neighbors` tells."""
    found = graph.neighbors(np.arange(graph.n))
    dense = np.zeros((graph.n, graph.n))
    dense[found.rows(), found.indices] = found.weights
    return dense


def consistency(weights: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Local consistency and homophily, node by node, ties in equal shares; NaN where no node counts."""
    right, agreeing = [], []
    for i in range(len(y)):
        votes: dict[int, float] = {}
        for j in np.flatnonzero(weights[i]):
            if y[j] >= 0:
                votes[int(y[j])] = votes.get(int(y[j]), 0.0) + weights[i, j]
        if y[i] >= 0 and votes:
            best = [label for label, vote in votes.items() if vote == max(votes.values())]
            right.append((y[i] in best) / len(best))
            agreeing.append(votes.get(int(y[i]), 0.0) / sum(votes.values()))
    return (float(np.mean(right)), float(np.mean(agreeing))) if right else (float("nan"), float("nan"))
