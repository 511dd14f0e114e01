"""Graphs of nearest neighbours."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.graph.edge_layer import EdgeLayer
from kinshot.kin.graph.graph import RelationGraph

# Query rows at a time: bounds the lists of neighbours within a radius that are held.
ROWS = 4096


def from_knn(
    X: Any,
    *,
    k: int | None = None,
    radius: float | None = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    mutual: bool = False,
    relation: str = "knn",
) -> RelationGraph:
    """The undirected graph that links each sample with its k nearest, or with all within a radius (the border counts as within).

    Args:
        X: features, (n, F): an array or a tensor on the CPU.
        k: neighbours of each sample; a link needs one of the two to be among the other's k nearest.
        radius: greatest distance of linked samples.
        metric: "euclidean", or "cosine" (1 - cosine similarity).
        mutual: with k, a link needs both to be among the other's k nearest.
        relation: name of the layer.

    Raises:
        ConfigError: not exactly one of k and radius, or a value without sense.
        DataError: features that are not a finite matrix, with "cosine" a row of zeros; names the row.

    >>> kinshot.kin.graph.from_knn(np.array([[0.0], [1.0], [5.0], [6.0]]), k=1).degrees()
    array([1, 1, 1, 1])
    """
    features = _features(X, metric)
    _check_choice(k, radius, metric, len(features))
    a, b = _nearest(features, k) if k is not None else _within(features, _euclidean(float(radius or 0), metric))
    if mutual and k is not None:
        n = len(features)
        there, back = a * n + b, b * n + a
        both = np.isin(there, back)
        a, b = a[both], b[both]
    layer = EdgeLayer.from_pairs(len(features), a, b, both_ways=True)
    # links found from both ends are no repair worth a finding
    return RelationGraph(len(features), {relation: EdgeLayer(layer.indptr, layer.indices)})


def _features(X: Any, metric: str) -> np.ndarray:
    try:
        features = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"features must be a matrix of numbers ({error})") from error
    if features.ndim != 2 or features.size == 0:
        raise DataError(f"features must have shape (n, F) with n, F >= 1, got {features.shape}")
    wrong = ~np.isfinite(features)
    if wrong.any():
        row, column = (int(i[0]) for i in np.nonzero(wrong))
        raise DataError(f"features of node {row} are not finite: column {column} is {features[row, column]}")
    if metric != "cosine":
        return features
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    if (norms == 0).any():
        raise DataError(
            f"node {int(norms.argmin())} has only zeros as features, and no cosine with others: leave it out or use 'euclidean'"
        )
    return features / norms


def _check_choice(k: int | None, radius: float | None, metric: str, n: int) -> None:
    if (k is None) == (radius is None):
        raise ConfigError(f"give exactly one of k and radius, got k={k} and radius={radius}")
    if metric not in ("euclidean", "cosine"):
        raise ConfigError(f"metric must be 'euclidean' or 'cosine', got {metric!r}")
    if k is not None and not 1 <= k < n:
        raise ConfigError(f"k must be from 1 to n - 1 = {n - 1}, got {k}")
    if radius is not None and not 0 <= radius < np.inf:
        raise ConfigError(f"radius must be finite and at least 0, got {radius}")


def _euclidean(radius: float, metric: str) -> float:
    """The distance between unit vectors that a cosine distance stands for: |x - y|^2 = 2 (1 - cos)."""
    return radius if metric == "euclidean" else float(np.sqrt(2 * radius))


def _nearest(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    import torch

    from kinshot.kin.neighbors.ranking import rank

    near = rank(torch.from_numpy(features), k=k, metric="euclidean").index.numpy()
    return np.repeat(np.arange(len(features)), k), near.ravel()


def _within(features: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.neighbors import NearestNeighbors

    search, n = NearestNeighbors().fit(features), len(features)
    a, b = [], []
    for start in range(0, n, ROWS):
        near = search.radius_neighbors(features[start : start + ROWS], radius=radius, return_distance=False)
        row = np.repeat(np.arange(start, start + len(near)), [len(one) for one in near])
        column = np.concatenate([*near, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        # each link once: the search finds it from both ends
        a.append(row[row < column])
        b.append(column[row < column])
    return np.concatenate(a), np.concatenate(b)
