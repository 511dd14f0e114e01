"""Labels made wrong on purpose, for studies of what learning from wrong ones costs."""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy


def wrong_labels(labels: np.ndarray, classes: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share are wrong, int64 (N,), and which these are, bool (N,).

    Symmetric: round(share * N) samples are drawn, whatever their class, and each gets one of the other classes, all of them alike. Which
    samples and which classes depends on `labels`, `classes` and `seed` alone. A larger share makes wrong whatever a smaller one does, and
    alike.

    Args:
        labels: int64 (N,), 0..classes-1.
        classes: how many there are, at least 2.
        share: of the samples, from 0 to below 1.
        seed: of the draw, a run's own.

    Raises:
        ConfigError: a share out of range, or fewer than two classes.

    >>> given, wrong = wrong_labels(np.arange(10) % 5, classes=5, share=0.4, seed=0)
    >>> int(wrong.sum()), bool((given == np.arange(10) % 5)[~wrong].all())
    (4, True)
    """
    if not 0 <= share < 1:
        raise ConfigError(f"wrong labels: expected a share from 0 to below 1, got {share:g}")
    if classes < 2:
        raise ConfigError(f"wrong labels: a wrong label is one of another class, and there is {classes} class: choose data with more")
    truth, rng = np.asarray(labels, dtype=np.int64), keyed_numpy(seed, "wrong labels")
    order, steps = rng.permutation(len(truth)), rng.integers(1, classes, len(truth))
    wrong = np.zeros(len(truth), dtype=bool)
    wrong[order[: round(share * len(truth))]] = True
    return np.where(wrong, (truth + steps) % classes, truth), wrong
