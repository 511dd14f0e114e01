"""Mean inverse negative penalty."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("minp", depth="all")
def minp(found: Retrieved) -> np.ndarray:
    """Number of kin over the place of the furthest one: what it costs to find them all.

    1 where all kin come first. Equally near ones stand in the order of the references.

    Paper: Ye, Shen, Lin, Xiang, Shao, Hoi, 2021, Deep learning for person re-identification, TPAMI, arXiv 2001.04193
    """
    last = found.kin.shape[1] - found.kin[:, ::-1].argmax(axis=1)
    inverse: np.ndarray = found.total / last
    return inverse
