"""What a mean over episodes says of other classes than those of the pool: a jackknife over classes.

An episode's accuracy is a symmetric function of the classes that play, so the mean over all episodes of a pool of K classes is a
U-statistic of its classes, and the mean over drawn ones an incomplete U-statistic. Leaving one class out leaves the episodes where it
does not play; the spread of these K means estimates what another pool of K classes, drawn from where these come from, would give. It sees
both how well a class is recognised and how it misleads when others are asked for, which resampling the queries' classes alone would miss.

Drawn episodes add noise of their own to each of the K means, which is subtracted: the jackknife would count it once for every way.

Papers: Arvesen, 1969, Jackknifing U-statistics, Annals of Mathematical Statistics 40; Efron and Stein, 1981, The jackknife estimate of
variance, Annals of Statistics 9 (why it errs towards too wide)
"""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.statistics.parts import Part

LEAST = 2
"""Episodes without a class below which nothing can be said of leaving it out."""


def classes_part(values: np.ndarray, played: np.ndarray) -> Part:
    """The part of the classes in the error of a mean over episodes.

    Args:
        values: one figure per episode, (E,).
        played: which classes play in which episode, bool (E, K).

    Raises:
        DataError: a class that plays in every episode, or in all but one, or in one alone.
    """
    found, member = np.asarray(values, dtype=np.float64), np.asarray(played, dtype=np.float64)
    (count, classes), having = member.shape, member.sum(axis=0)
    lacking = count - having
    if int(lacking.min()) < LEAST or int(having.max()) < LEAST:
        raise DataError(
            f"an interval over classes leaves out one class at a time, and of {count} episodes over {classes} classes only "
            f"{int(lacking.min())} lack some class: give fewer --ways than there are classes, and more --episodes"
        )
    centred = found - found.mean()
    moved = -(centred @ member) / lacking  # mean without the class, minus the mean of all
    noise = (having / count) ** 2 * (_within(centred, member) / having + _within(centred, 1 - member) / lacking)
    spread = float(((moved - moved.mean()) ** 2).sum() - (classes - 1) / classes * noise.sum())
    return Part("classes", max(0.0, (classes - 1) / classes * spread), classes - 1)


def _within(values: np.ndarray, member: np.ndarray) -> float:
    """Variance of the values within every column's members, pooled over the columns: some classes play in one episode alone."""
    count = member.sum(axis=0)
    squares = values**2 @ member - (values @ member) ** 2 / count
    return float(np.maximum(0.0, squares).sum() / (count - 1).sum())
