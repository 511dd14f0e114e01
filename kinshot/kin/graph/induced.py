"""The part of a graph that lies between two lists of nodes, such as a batch and itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinshot.kin.graph.places import mark

if TYPE_CHECKING:
    from kinshot.kin.graph.graph import RelationGraph


@dataclass(frozen=True)
class Induced:
    """Relation between two lists of node ids.

    Args:
        positive: link weights, float32 (R, C); 0 = not linked, 1 where both are the same node.
        masked: neither positive nor negative, bool (R, C): near in the graph, but not linked.
    """

    positive: np.ndarray
    masked: np.ndarray


def induce(graph: RelationGraph, rows: np.ndarray, columns: np.ndarray, mask_hops: int) -> Induced:
    """The links between two lists of node ids, in which ids may repeat; see `RelationGraph.induced`."""
    parts = [_scaled(layer.dense(rows, columns), graph.layer_weights[name]) for name, layer in graph.layers.items()]
    linked = parts[0]
    for part in parts[1:]:
        linked += part
    near = np.zeros(linked.shape, dtype=bool)
    if mask_hops > 1:
        ball = graph.ball(rows, mask_hops)
        mark(near, ball.rows(), ball.indices, columns, None)
        near &= linked == 0
    mark(linked, np.arange(len(rows)), rows, columns, None)
    return Induced(linked, near)


def _scaled(weights: np.ndarray, factor: float) -> np.ndarray:
    return weights if factor == 1 else weights * np.float32(factor)
