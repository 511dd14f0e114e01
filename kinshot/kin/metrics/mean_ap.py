"""Mean average precision over the whole ranking."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("mean_ap", depth="all")
def mean_ap(found: Retrieved) -> np.ndarray:
    """Mean over all kin of the precision at the place of each: average precision.

    Equally near ones stand in the order of the references (`lrap` gives them all the last of their places). With several labels that is
    the mean average precision whose kin share one.

    Paper: Manning, Raghavan, Schütze, 2008, Introduction to information retrieval (section 8.4)
    """
    mean: np.ndarray = (found.kin * found.hits() / found.places()).sum(axis=1) / found.total
    return mean
