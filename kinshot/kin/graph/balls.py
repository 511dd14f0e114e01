"""Nodes within some hops of given nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kinshot.kin.graph.block_layer import BlockLayer
from kinshot.kin.graph.csr import expand, pointers
from kinshot.kin.graph.layers import Layer, Neighbors

# Rows expanded together: their balls are held as sorted lists.
ROWS = 128


def ball(layers: Sequence[Layer], ids: np.ndarray, hops: int, n: int) -> Neighbors:
    """All nodes within `hops` hops of each of `ids`, itself left out; every weight is 1. Needs memory for the balls it returns."""
    parts = [_ball(layers, ids[start : start + ROWS], hops, n) for start in range(0, len(ids), ROWS)]
    lengths = np.concatenate([np.zeros(0, dtype=np.int64), *(part[0] for part in parts)])
    indices = np.concatenate([np.zeros(0, dtype=np.int64), *(part[1] for part in parts)])
    return Neighbors(pointers(lengths), indices, np.ones(len(indices), dtype=np.float32))


def _ball(layers: Sequence[Layer], ids: np.ndarray, hops: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and members of the balls of a few nodes."""
    itself = np.arange(len(ids)) * n + ids
    seen = frontier = itself
    for _ in range(hops):
        reached = np.unique(np.concatenate([_step(layer, frontier, n) for layer in layers]))
        frontier = np.setdiff1d(reached, seen, assume_unique=True)
        if len(frontier) == 0:
            break
        seen = np.union1d(seen, frontier)
    rows, nodes = np.divmod(np.setdiff1d(seen, itself, assume_unique=True), n)
    return np.bincount(rows, minlength=len(ids)), nodes


def _step(layer: Layer, frontier: np.ndarray, n: int) -> np.ndarray:
    """What one layer reaches from a frontier of keys row * n + node, as keys; a block is entered once a row."""
    rows, nodes = np.divmod(frontier, n)
    if not isinstance(layer, BlockLayer):
        place, neighbor, _ = layer.pairs(nodes)
        return rows[place] * n + neighbor
    width = max(layer.blocks, 1)
    inside = layer.block[nodes] >= 0
    entered = np.unique(rows[inside] * width + layer.block[nodes[inside]])
    place, near = layer.near_blocks(entered % width)
    entered = np.unique(entered[place] // width * width + near)
    place, positions = expand(layer.offsets, entered % width)
    return (entered // width)[place] * n + layer.members[positions]
