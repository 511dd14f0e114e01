"""Checks of a graph: what its parts must agree on, and what is worth telling its user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kinshot.core.errors import DataError
from kinshot.kin.graph.csr import BUDGET, chunks
from kinshot.kin.graph.edge_layer import EdgeLayer
from kinshot.kin.graph.layers import Layer

if TYPE_CHECKING:
    from kinshot.kin.graph.graph import RelationGraph


def check_layers(n: int, layers: Mapping[str, Layer], negatives: EdgeLayer | None, groups: np.ndarray | None) -> None:
    """Refuse parts of different sizes.

    Raises:
        DataError: no node, no layer, or a part that is not about n nodes.
    """
    if n < 1:
        raise DataError(f"a graph needs at least one node, got n={n}")
    if not layers:
        raise DataError("a graph needs at least one layer; for one without links give an EdgeLayer without entries")
    parts = {f"layer {name!r}": layer.n for name, layer in layers.items()} | ({} if negatives is None else {"negatives": negatives.n})
    for what, size in parts.items():
        if size != n:
            raise DataError(f"{what} is about {size} nodes, the graph has {n}: all parts must have the same nodes")
    if groups is not None and (groups.shape != (n,) or groups.dtype.kind not in "iu"):
        raise DataError(f"groups must be one integer for each of the {n} nodes, got {groups.dtype} of shape {groups.shape}")


def without_conflicts(layers: Mapping[str, Layer], negatives: EdgeLayer | None) -> tuple[EdgeLayer | None, int]:
    """The explicit negatives that no layer links, and how many entries were dropped."""
    if negatives is None:
        return None, 0
    free = np.ones(negatives.entries(), dtype=bool)
    for start, stop in chunks(negatives.degrees()):
        first, last = negatives.indptr[start], negatives.indptr[stop]
        a, b = np.arange(start, stop)[negatives.pairs(np.arange(start, stop))[0]], negatives.indices[first:last].astype(np.int64)
        for layer in layers.values():
            free[first:last] &= layer.weights_of(a, b) == 0
    dropped = int((~free).sum())
    return (negatives if dropped == 0 else negatives.where(free)), dropped


def findings(graph: RelationGraph) -> list[str]:
    """See `RelationGraph.validate`."""
    found = [f"layer {name!r}: {note}" for name, layer in graph.layers.items() for note in layer.notes]
    for name, layer in graph.layers.items():
        if isinstance(layer, EdgeLayer):
            found += [f"layer {name!r}: {problem}" for problem in row_problems(layer, symmetric=not graph.directed)]
        if layer.entries() == 0:
            found.append(f"layer {name!r} has no links")
    if graph.negatives is not None:
        found += [f"negatives: {note}" for note in (*graph.negatives.notes, *row_problems(graph.negatives, symmetric=False))]
    if graph.conflicts:
        found.append(f"{graph.conflicts} explicit negatives are also linked and were dropped")
    isolated = np.flatnonzero(graph.degrees() == 0)
    if len(isolated):
        found.append(f"{len(isolated)} of {graph.n} nodes have no neighbours ({_some(isolated)}): they contribute no relation")
    return found


def row_problems(layer: EdgeLayer, *, symmetric: bool) -> list[str]:
    """What is wrong with the rows of a layer: order, self loops, links that lack the way back."""
    found: list[str] = []
    balance = 0
    degrees = layer.degrees()
    for start, stop in chunks(degrees, BUDGET):
        rows = np.repeat(np.arange(start, stop), degrees[start:stop])
        columns = layer.indices[layer.indptr[start] : layer.indptr[stop]].astype(np.int64)
        falling = np.flatnonzero((columns[1:] <= columns[:-1]) & (rows[1:] == rows[:-1]))
        if len(falling):
            return [f"the columns of row {rows[falling[0]]} are not sorted and unique: make layers with EdgeLayer.from_pairs"]
        loops = np.flatnonzero(rows == columns)
        if len(loops):
            found.append(f"node {rows[loops[0]]} is linked with itself")
        if symmetric:
            weights = None if layer.weights is None else layer.weights[layer.indptr[start] : layer.indptr[stop]]
            balance += _hashes(rows, columns, weights) - _hashes(columns, rows, weights)
    if balance % 2**64 != 0:
        found.append(f"link {_one_way(layer)} has no way back, or another weight there, but the graph is undirected")
    return found


def _hashes(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None) -> int:
    """A sum over links (modulo 2^64) that, taken both ways, tells symmetric rows from others up to one chance in 2^64 or so."""
    x = a.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + b.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    if weights is not None:
        x += weights.astype(np.float32).view(np.uint32).astype(np.uint64) * np.uint64(0x165667B19E3779F9)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    return int((x ^ (x >> np.uint64(31))).sum(dtype=np.uint64))


def _one_way(layer: EdgeLayer) -> str:
    for start, stop in chunks(layer.degrees()):
        rows, columns, weights = layer.pairs(np.arange(start, stop))
        back = layer.weights_of(columns, rows + start)
        wrong = np.flatnonzero(back != (1 if weights is None else weights))
        if len(wrong):
            return f"{rows[wrong[0]] + start} -> {columns[wrong[0]]}"
    return "somewhere"


def _some(ids: np.ndarray) -> str:
    return "the first are " + ", ".join(str(i) for i in ids[:5]) if len(ids) > 5 else ", ".join(str(i) for i in ids)
