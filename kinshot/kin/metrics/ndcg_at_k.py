"""Normalised discounted cumulative gain at k."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("ndcg_at_k", depth="k", graded=True)
def ndcg_at_k(found: Retrieved, *, k: int = 10, gain: Literal["linear", "exponential", "binary"] = "linear") -> np.ndarray:
    """Gain of the k nearest, over log2(1 + place), as a share of that of the best order.

    The best order has at most k places, and at most as many kin as there are. Where kin are all alike the three gains are one. Equally
    near ones stand in the order of the references.

    Paper: Järvelin, Kekäläinen, 2002, Cumulated gain-based evaluation of IR techniques, TOIS 20; exponential: Burges et al., 2005, ICML

    Args:
        k: nearest that are looked at.
        gain: the relevance itself, 2^relevance - 1, or 1 for every kin.
    """
    of = {"linear": lambda r: r, "exponential": lambda r: np.exp2(r) - 1, "binary": lambda r: (r > 0).astype(np.float64)}[gain]
    sums = []
    for relevance in (found.relevance()[:, :k], found.ideal(k)):
        sums.append((of(relevance) / np.log2(np.arange(2, relevance.shape[1] + 2))).sum(axis=1))
    share: np.ndarray = sums[0] / sums[1]
    return share
