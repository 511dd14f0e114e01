"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values for their number: at level 0.05 the chance of any false call is at most 5 %.

    Paper: Holm, 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6
    """
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)))
    found = np.empty_like(raw)
    found[order] = stepped
    return [float(value) for value in found]
