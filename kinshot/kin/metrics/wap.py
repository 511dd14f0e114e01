"""Weighted average precision."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("wap", depth="all", graded=True)
def wap(found: Retrieved) -> np.ndarray:
    """Mean over all kin of the average cumulative gain at the place of each.

    As large as relevance is, so not a share; where kin are all alike it is `mean_ap`. Equally near ones stand in the order of the
    references.

    Paper: Zhao, Huang, Wang, Tan, 2015, Deep semantic ranking based hashing for multi-label image retrieval, arXiv 1501.06272
    """
    so_far = found.relevance().cumsum(axis=1) / found.places()
    mean: np.ndarray = (found.kin * so_far).sum(axis=1) / found.total
    return mean
