"""Precision at k."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("precision_at_k", depth="k")
def precision_at_k(found: Retrieved, *, k: int = 1) -> np.ndarray:
    """Share of the k nearest that are kin.

    At k = 1 that is the accuracy of the nearest neighbour. A query with fewer than k kin cannot reach 1.

    Args:
        k: nearest that are looked at.
    """
    share: np.ndarray = found.kin[:, :k].mean(axis=1)
    return share
