"""Lists drawn again, with replacement, from things that were measured: what a figure would have been on others of their kind.

Paper: Efron, Tibshirani, 1993, An introduction to the bootstrap
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kinshot.core.rng import keyed_numpy

DRAWS = 1000
_AT_ONCE = 1 << 22
"""Numbers that are held at a time."""


def drawn_again(purpose: str, count: int, seed: int, draws: int = DRAWS) -> Iterator[np.ndarray]:
    """How often each of `count` things is in each of `draws` lists of as many, float64 (some, count) at a time.

    The lists depend on purpose, count and seed alone: those of two results on the same things are the same.
    """
    rng, step = keyed_numpy(seed, purpose, count), max(1, _AT_ONCE // count)
    for first in range(0, draws, step):
        some = min(step, draws - first)
        numbers = rng.integers(count, size=(some, count)) + np.arange(some)[:, None] * count
        yield np.bincount(numbers.ravel(), minlength=some * count).reshape(some, count).astype(np.float64)


def means_again(values: np.ndarray, purpose: str, seed: int, draws: int = DRAWS) -> np.ndarray:
    """Means of figures (M, E) over every list of things that was drawn again, the same lists for all M: float64 (M, draws)."""
    found = [values @ times.T for times in drawn_again(purpose, values.shape[1], seed, draws)]
    return np.concatenate(found, axis=1) / values.shape[1]
