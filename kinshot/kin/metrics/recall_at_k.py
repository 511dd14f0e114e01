"""Recall at k, as metric learning uses the word."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("recall_at_k", depth="k")
def recall_at_k(found: Retrieved, *, k: int = 1) -> np.ndarray:
    """Whether any of the k nearest is kin.

    Metric learning calls this recall (elsewhere: hit rate, or rank-k of the cumulative match characteristic, CMC, whose camera rule is
    `neighbors.without.camera_rule`); it is not the share of the kin that are found.

    Paper: Oh Song, Xiang, Jegelka, Savarese, 2016, arXiv 1511.06452

    Args:
        k: nearest that are looked at.
    """
    hit: np.ndarray = found.kin[:, :k].max(axis=1).astype(np.float64)
    return hit
