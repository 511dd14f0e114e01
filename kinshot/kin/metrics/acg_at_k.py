"""Average cumulative gain at k."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("acg_at_k", depth="k", graded=True)
def acg_at_k(found: Retrieved, *, k: int = 10) -> np.ndarray:
    """Mean relevance of the k nearest: of several labels, how many they share with the query.

    As large as relevance is, so not a share; where kin are all alike it is precision at k.

    Paper: Järvelin, Kekäläinen, 2000, IR evaluation methods for retrieving highly relevant documents, SIGIR; as several labels use
        it: Zhao, Huang, Wang, Tan, 2015, arXiv 1501.06272

    Args:
        k: nearest that are looked at.
    """
    mean: np.ndarray = found.relevance()[:, :k].mean(axis=1)
    return mean
