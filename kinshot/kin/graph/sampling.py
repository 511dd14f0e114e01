"""Draws of kin and of strangers, many nodes at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinshot.core.errors import ConfigError, suggest
from kinshot.kin.graph.csr import first_where
from kinshot.kin.graph.edge_layer import EdgeLayer
from kinshot.kin.graph.intervals import closed_neighborhoods, draw_outside, points

if TYPE_CHECKING:
    from kinshot.kin.graph.graph import RelationGraph

POSITIVES = ("edge", "hops", "walk")
NEGATIVES = ("any", "same_group", "hops", "explicit")


def draw_neighbors(graph: RelationGraph, ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` neighbours of each node with probability proportional to the summed link weight, (B, count), -1 where there is none.

    First a layer, by its share of the node's weight, then a link of that layer: the layers need not be united.
    """
    layers = list(graph.layers.values())
    if len(layers) == 1:
        return layers[0].draw(ids, count, rng)
    shares = np.stack([layer.totals(ids) * graph.layer_weights[name] for name, layer in graph.layers.items()])
    reached = np.cumsum(shares, axis=0)
    target = rng.random((len(ids), count)) * reached[-1][:, None]
    # rounding may leave the last layer that has anything behind the target
    last = len(layers) - 1 - np.argmax(shares[::-1] > 0, axis=0)
    chosen = np.minimum((target[None] >= reached[:, :, None]).sum(0), last[:, None])
    drawn = np.stack([layer.draw(ids, count, rng) for layer in layers])
    return np.take_along_axis(drawn, chosen[None], axis=0)[0]


def draw_from_balls(graph: RelationGraph, ids: np.ndarray, count: int, rng: np.random.Generator, hops: int) -> np.ndarray:
    """`count` nodes within `hops` hops of each node, uniformly, (B, count), -1 where there is none."""
    near = graph.ball(ids, hops)
    sizes = np.diff(near.indptr)
    found = np.full((len(ids), count), -1, dtype=np.int64)
    some = np.flatnonzero(sizes > 0)
    if len(some) and count:
        found[some] = near.indices[near.indptr[some, None] + rng.integers(0, sizes[some, None], (len(some), count))]
    return found


def draw_walks(graph: RelationGraph, ids: np.ndarray, count: int, rng: np.random.Generator, length: int) -> np.ndarray:
    """Where random walks of `length` steps end, (B, count), -1 where there is no neighbour.

    Each step follows a link with probability proportional to its weight. A walk that ends where it began counts as ending
    at the last other node it visited; one that cannot go on (directed graphs) ends there.
    """
    start = np.repeat(ids, count)
    here, found = start.copy(), np.full(len(start), -1, dtype=np.int64)
    walking = np.arange(len(start))
    for _ in range(length):
        reached = draw_neighbors(graph, here[walking], 1, rng)[:, 0]
        walking, reached = walking[reached >= 0], reached[reached >= 0]
        here[walking] = reached
        away = reached != start[walking]
        found[walking[away]] = reached[away]
    return found.reshape(len(ids), count)


def draw_strangers(graph: RelationGraph, ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` nodes that are neither the node nor its neighbours, uniformly, (B, count), -1 where there is none."""
    layers = list(graph.layers.values())
    if len(layers) == 1 and isinstance(layers[0], EdgeLayer) and graph.groups is None:
        return _outside_row(layers[0], ids, count, rng)
    taken = closed_neighborhoods(graph.order, layers, ids, graph.n)
    everything = np.zeros(len(ids), dtype=np.int64), np.full(len(ids), graph.n, dtype=np.int64)
    return _as_nodes(graph, draw_outside(taken, *everything, count, rng))


def draw_group_strangers(graph: RelationGraph, ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """As `draw_strangers`, from the node's own group only; -1 also for nodes in no group.

    Raises:
        ConfigError: the graph has no groups.
    """
    if graph.groups is None:
        raise ConfigError("negatives='same_group' needs a graph with groups: give RelationGraph(groups=...), or draw from 'any'")
    taken = closed_neighborhoods(graph.order, list(graph.layers.values()), ids, graph.n)
    low, high = graph.group_window(ids)
    return _as_nodes(graph, draw_outside(taken, low, high, count, rng))


def draw_distant(graph: RelationGraph, ids: np.ndarray, count: int, rng: np.random.Generator, hops: int) -> np.ndarray:
    """`count` nodes more than `hops` hops away, uniformly, (B, count), -1 where there is none."""
    near = graph.ball(ids, hops)
    rows, nodes = np.concatenate([near.rows(), np.arange(len(ids))]), np.concatenate([near.indices, ids])
    taken = points(graph.order, rows, nodes, len(ids), graph.n)
    everything = np.zeros(len(ids), dtype=np.int64), np.full(len(ids), graph.n, dtype=np.int64)
    return _as_nodes(graph, draw_outside(taken, *everything, count, rng))


def draw_explicit(graph: RelationGraph, ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the node's explicit negatives, proportional to weight, (B, count), -1 where there is none.

    Raises:
        ConfigError: the graph has no explicit negatives.
    """
    if graph.negatives is None:
        raise ConfigError(
            "negatives='explicit' needs a graph with explicit negatives: give RelationGraph(negatives=...), or draw from 'any'"
        )
    return graph.negatives.draw(ids, count, rng)


def check_choice(what: str, how: str, choices: tuple[str, ...]) -> None:
    """Refuse an unknown way of drawing.

    Raises:
        ConfigError: `how` is not one of `choices`.
    """
    if how not in choices:
        raise ConfigError(f"{what} cannot be drawn by how={how!r}: {suggest(how, choices)}")


def _as_nodes(graph: RelationGraph, positions: np.ndarray) -> np.ndarray:
    return np.where(positions >= 0, graph.order.nodes(np.maximum(positions, 0)), -1)


def _outside_row(layer: EdgeLayer, ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Strangers of one layer of edges: the search runs on its rows as they are stored, O(log degree) a draw.

    The node itself is taken out by renumbering: nodes behind it move up by one, so that n - 1 numbers are left.
    """
    found = np.full((len(ids), count), -1, dtype=np.int64)
    free = layer.n - 1 - (layer.indptr[ids + 1] - layer.indptr[ids])
    some = np.flatnonzero(free > 0)
    if len(some) == 0 or count == 0:
        return found
    node = ids[some, None]
    rank = rng.integers(0, free[some, None], (len(some), count))
    first, last = (np.broadcast_to(layer.indptr[node + side], rank.shape) for side in (0, 1))

    def behind(k: np.ndarray) -> np.ndarray:
        neighbor = layer.indices[k]
        return neighbor - (neighbor > node) - (k - first) > rank

    drawn = rank + first_where(first, last, behind, len(layer.indices)) - first
    found[some] = drawn + (drawn >= node)
    return found
