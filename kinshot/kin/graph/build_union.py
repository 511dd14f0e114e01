"""Several graphs of the same nodes as one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.kin.graph.edge_layer import EdgeLayer
from kinshot.kin.graph.graph import RelationGraph


def union(graphs: Mapping[str, RelationGraph], weights: Mapping[str, float] | None = None) -> RelationGraph:
    """One graph with the layers of all: neighbours are those in any of them, link weights add up.

    The layer of a graph with one layer is named as the graph, others `graph/layer`. Explicit negatives are joined; those that
    another graph links are dropped. Directed if one of them is. Groups are those of the graphs that have some.

    Args:
        graphs: graphs by name, all of the same nodes.
        weights: factor of each graph's link weights; 1 for those not named.

    Raises:
        ConfigError: no graph, or a weight for none of them.
        DataError: graphs of different sizes or different groups.

    >>> links, site = kinshot.kin.graph.from_edges(np.array([[0, 1]]), n=3), kinshot.kin.graph.from_labels(np.array([0, 1, 1]))
    >>> kinshot.kin.graph.union({"links": links, "site": site}, weights={"site": 0.5}).degrees()
    array([1, 2, 1])
    """
    if not graphs:
        raise ConfigError("union needs at least one graph")
    for name in weights or {}:
        if name not in graphs:
            raise ConfigError(f"weight for {name!r}, which is no graph: {suggest(name, graphs)}")
    first, n = next((name, graph.n) for name, graph in graphs.items())
    layers, factors = {}, {}
    for name, graph in graphs.items():
        if graph.n != n:
            raise DataError(f"graph {name!r} has {graph.n} nodes, {first!r} has {n}: a union needs the same nodes")
        for inner, layer in graph.layers.items():
            full = name if len(graph.layers) == 1 else f"{name}/{inner}"
            layers[full], factors[full] = layer, graph.layer_weights[inner] * (weights or {}).get(name, 1.0)
    groups, negatives, directed = _groups(graphs), _negatives(graphs), any(graph.directed for graph in graphs.values())
    return RelationGraph(n, layers, layer_weights=factors, negatives=negatives, groups=groups, directed=directed)


def _groups(graphs: Mapping[str, RelationGraph]) -> np.ndarray | None:
    known = {name: graph.groups for name, graph in graphs.items() if graph.groups is not None}
    for name, groups in known.items():
        first = next(iter(known))
        if not np.array_equal(groups, known[first]):
            raise DataError(f"graphs {first!r} and {name!r} have different groups: a union needs one grouping")
    return next(iter(known.values()), None)


def _negatives(graphs: Mapping[str, RelationGraph]) -> EdgeLayer | None:
    layers = [graph.negatives for graph in graphs.values() if graph.negatives is not None]
    if len(layers) < 2:
        return layers[0] if layers else None
    pairs = [layer.pairs(np.arange(layer.n)) for layer in layers]
    a, b = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    strengths = [np.ones(len(pair[0]), dtype=np.float32) if pair[2] is None else pair[2] for pair in pairs]
    weights = None if all(pair[2] is None for pair in pairs) else np.concatenate(strengths)
    return EdgeLayer.from_pairs(layers[0].n, a, b, weights, both_ways=False)
