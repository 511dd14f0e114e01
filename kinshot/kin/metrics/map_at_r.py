"""Mean average precision at R."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("map_at_r", depth="kin")
def map_at_r(found: Retrieved) -> np.ndarray:
    """Mean over the R nearest of the precision so far, 0 at those that are no kin.

    R is how many kin the query has. At most the R-precision, and more telling: it asks for the order too.

    Paper: Musgrave, Belongie, Lim, 2020, arXiv 2003.08505
    """
    places = found.places()
    counted = found.kin & (places <= found.total[:, None])
    mean: np.ndarray = (counted * found.hits() / places).sum(axis=1) / found.total
    return mean
