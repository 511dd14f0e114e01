"""Label ranking average precision."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("lrap", depth="all")
def lrap(found: Retrieved) -> np.ndarray:
    """Mean over a query's kin of the share of kin among all that are as near or nearer.

    The average precision of the whole ranking, but that equally near ones all have the last of their places: features that say nothing
    get what chance would give, in whichever order they stand.

    Paper: Tsoumakas, Katakis, Vlahavas, 2010, Mining multi-label data (as McDermott et al., 2023, arXiv 2103.10334, use it)
    """
    width = found.kin.shape[1]
    last = np.ones(found.closeness.shape, dtype=bool)  # the last of those that are equally near
    last[:, :-1] = found.closeness[:, :-1] != found.closeness[:, 1:]
    place = np.minimum.accumulate(np.where(last, np.arange(width), width)[:, ::-1], axis=1)[:, ::-1]
    share = np.take_along_axis(found.hits(), place, axis=1) / (place + 1)
    mean: np.ndarray = (share * found.kin).sum(axis=1) / found.total
    return mean
