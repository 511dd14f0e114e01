"""R-precision."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("r_precision", depth="kin")
def r_precision(found: Retrieved) -> np.ndarray:
    """Share of kin among the R nearest, where R is how many kin the query has."""
    return np.take_along_axis(found.hits(), found.total[:, None] - 1, axis=1)[:, 0] / found.total
