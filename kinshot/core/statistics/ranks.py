"""The order of figures, equal ones in the order in which they were given."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kinshot.core.errors import DataError


def extreme_episodes(accuracy: ArrayLike, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the best and of the worst episodes, most extreme first, each int64 (min(count, E),); ties in ascending order.

    Raises:
        DataError: no episodes, or a figure that is not finite.
    """
    found = np.asarray(accuracy, dtype=np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise DataError(f"the best and worst need finite figures, one for each episode, got an array of shape {found.shape}")
    return np.argsort(-found, kind="stable")[:count], np.argsort(found, kind="stable")[:count]
