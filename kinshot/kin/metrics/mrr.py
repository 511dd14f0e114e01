"""Mean reciprocal rank."""

from __future__ import annotations

import numpy as np

from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved


@METRICS.register("mrr", depth="all")
def mrr(found: Retrieved) -> np.ndarray:
    """One over the place of the nearest kin.

    Equally near ones stand in the order of the references.

    Paper: Voorhees, 1999, The TREC-8 question answering track report
    """
    first: np.ndarray = 1.0 / (1 + found.kin.argmax(axis=1))
    return first
