"""Nearest neighbors of the samples as they are."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.kin.graph import RelationGraph, from_knn

_CHUNK = 1024


@GRAPHS.register("knn")
def knn_graph(
    source: Source, *, k: int = 10, radius: float | None = None, metric: Literal["euclidean", "cosine"] = "euclidean", mutual: bool = False
) -> RelationGraph:
    """Nearest neighbors, or all within a radius, of raw features, pixels or character counts.

    Args:
        k: neighbors of each sample; ignored when a radius is given.
        radius: link all samples within this distance.
        metric: euclidean or cosine.
        mutual: keep only links that hold from both sides.

    Raises:
        ConfigError: k or radius out of range.

    >>> len(kinshot.graphs.knn(kinshot.sources.manifold(), k=3))
    100
    """
    if radius is None and not 1 <= k < len(source):
        raise ConfigError(f"graph.k: expected 1 to {len(source) - 1} for {source.name}, got {k}")
    rows = torch.arange(len(source)).split(_CHUNK)
    spec = source.spec
    features = np.concatenate([spec.raw(source.load(part)).numpy() for part in rows])
    return from_knn(features, k=None if radius is not None else k, radius=radius, metric=metric, mutual=mutual)
