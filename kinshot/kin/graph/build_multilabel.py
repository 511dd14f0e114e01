"""Graphs from several labels at once: samples of similar label sets are kin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.graph.block_layer import BlockLayer
from kinshot.kin.graph.csr import BUDGET, index_dtype
from kinshot.kin.graph.edge_layer import EdgeLayer
from kinshot.kin.graph.graph import RelationGraph

MISSING = 2


def from_multilabel(
    Y: Any, *, k: int | None = None, radius: float | None = None, min_shared: int | None = None, relation: str = "multilabel"
) -> RelationGraph:
    """The graph of samples with similar label sets. Samples with the same labels form a block; near blocks are adjacent.

    The distance of two label sets is the number of labels on which they differ; a label that is missing in either counts 1/2.
    A sample without any known label has no neighbours. At most one of the three rules; none means radius 1.5, so that sets
    which differ in one label are adjacent.

    Paper: McDermott, Yap, Szolovits, Zitnik, 2023, arXiv 2103.10334 (label sets of proteins). Departure: with `k`, ties are
    broken by the order of the sorted label sets.

    Args:
        Y: labels (n, T): 1 has it, 0 has it not, -1 or NaN unknown.
        k: each label set is adjacent to its k nearest other ones, in either direction.
        radius: label sets of at most this distance are adjacent.
        min_shared: samples with at least so many labels in common are kin (a sample with fewer has no neighbours).
        relation: name of the layer.

    Raises:
        ConfigError: more than one rule, or a value without sense.
        DataError: other values than 0, 1 and missing; names the node and column.
    """
    if sum(rule is not None for rule in (k, radius, min_shared)) > 1:
        raise ConfigError(f"give at most one of k={k}, radius={radius}, min_shared={min_shared}")
    for name, value, least in (("k", k, 1), ("radius", radius, 0), ("min_shared", min_shared, 1)):
        if value is not None and not least <= value < np.inf:
            raise ConfigError(f"{name} must be finite and at least {least}, got {value}")
    codes = _codes(Y)
    sets, block = np.unique(codes, axis=0, return_inverse=True)
    linkable = (sets != MISSING).any(1) if min_shared is None else (sets == 1).sum(1) >= min_shared
    number = np.where(linkable, np.cumsum(linkable) - 1, -1)
    adjacency = _adjacent(sets[linkable], k, 1.5 if radius is None else radius, min_shared)
    return RelationGraph(len(codes), {relation: BlockLayer(number[block.reshape(-1)].astype(index_dtype(len(codes))), adjacency)})


def _codes(Y: Any) -> np.ndarray:
    try:
        array = np.asarray(Y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"labels must be a matrix of 0, 1 and -1 or NaN for missing ({error})") from error
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"labels must have shape (n, T) with n, T >= 1, got {array.shape}")
    array = np.where(np.isnan(array) | (array == -1), MISSING, array)
    wrong = ~np.isin(array, (0, 1)) & (array != MISSING) | (np.asarray(Y, dtype=np.float64) == MISSING)
    if wrong.any():
        node, column = (int(i[0]) for i in np.nonzero(wrong))
        raise DataError(f"node {node} has label {array[node, column]:g} in column {column}: use 0, 1, and -1 or NaN for missing")
    return array.astype(np.int8)


def _adjacent(sets: np.ndarray, k: int | None, radius: float, min_shared: int | None) -> EdgeLayer:
    """Links between label sets (U, T), by blocks of rows."""
    found = []
    for start, scores in _similarities(sets, shared=min_shared is not None):
        own = np.arange(len(scores))
        if min_shared is not None:
            near = scores >= min_shared
        elif k is not None:
            scores[own, start + own] = np.inf
            order = np.argsort(scores, axis=1, kind="stable")[:, : min(k, len(sets) - 1)]
            near = np.zeros(scores.shape, dtype=bool)
            np.put_along_axis(near, order, True, axis=1)
        else:
            near = scores <= radius
        near[own, start + own] = False
        row, column = np.nonzero(near)
        found.append(np.stack([row + start, column]))
    a, b = np.concatenate(found, axis=1) if found else np.zeros((2, 0), dtype=np.int64)
    layer = EdgeLayer.from_pairs(len(sets), a, b, both_ways=True)
    return EdgeLayer(layer.indptr, layer.indices)


def _similarities(sets: np.ndarray, *, shared: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Number of shared labels, or distance, of blocks of label sets to all: (first row, float32 (rows, U))."""
    has, lacks = ((sets == value).astype(np.float32) for value in (1, 0))
    known = has + lacks
    rows = max(1, BUDGET // max(len(sets), 1))
    for start in range(0, len(sets), rows):
        some = slice(start, start + rows)
        if shared:
            yield start, has[some] @ has.T
        else:
            different = has[some] @ lacks.T + lacks[some] @ has.T
            yield start, different + (sets.shape[1] - known[some] @ known.T) / 2
