"""Means of figures of one checkpoint, or of several on the same episodes, with their intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kinshot.core.errors import DataError
from kinshot.core.statistics.parts import Estimate, Part, estimate

RULE = "Student t, 95 %, over episodes"


def mean_of(values: ArrayLike) -> Estimate:
    """Mean and interval of figures (E,), or (C, E) of C checkpoints on the same E episodes; what was not drawn twice has no part.

    One figure alone therefore has an interval of no width, which says nothing of how sure it is.

    Args:
        values: one figure a run, an episode or a draw, (E,) or (C, E), with at least one.

    Raises:
        DataError: no figures, or one that is not finite.
    """
    return _mean(checked(values, least=1))


def crossed(values: ArrayLike) -> Estimate:
    """`mean_of` figures in episodes, of which there must be two: of one checkpoint Student's interval, mean ± t(E-1) s / sqrt(E).

    Of several checkpoints (rows) on the same episodes (columns), both being drawn, the part of either.

    Args:
        values: (C, E), or (E,) of one checkpoint.

    Raises:
        DataError: fewer than two episodes, or a figure that is not finite.
    """
    return _mean(checked(values))


def _mean(values: np.ndarray) -> Estimate:
    return estimate(float(values.mean()), [*rows_part(values, "checkpoints"), *columns_part(values, "episodes")])


def rows_part(values: np.ndarray, over: str) -> list[Part]:
    """The part of the drawn rows of figures (C, E): the spread of the rows' means; nothing where there is one row."""
    return _spread(values.mean(axis=1), over)


def columns_part(values: np.ndarray, over: str) -> list[Part]:
    """The part of the drawn columns of figures (C, E): the spread of the columns' means; nothing where there is one column."""
    return _spread(values.mean(axis=0), over)


def _spread(means: np.ndarray, over: str) -> list[Part]:
    count = len(means)
    return [] if count < 2 else [Part(over, float(means.var(ddof=1)) / count, count - 1)]


def checked(values: ArrayLike, least: int = 2) -> np.ndarray:
    """Figures (E,) of one checkpoint or (C, E) of several as float64 (C, E).

    Raises:
        DataError: fewer than `least` episodes, or a figure that is not finite; names the episode.
    """
    found = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if found.ndim != 2 or found.shape[1] < least or not len(found):
        few = f"an interval needs at least {least} episodes" if least > 1 else "a mean needs a figure"
        raise DataError(f"{few}, got an array of shape {np.shape(values)}: evaluate more episodes")
    if not np.isfinite(found).all():
        raise DataError(f"episode {int(np.flatnonzero(~np.isfinite(found).all(axis=0))[0])} has a figure that is not finite")
    return found
