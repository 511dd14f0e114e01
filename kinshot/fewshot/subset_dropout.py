"""Heads that must do with some of the modalities are trained on random subsets of them."""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_uniform


def subset_dropout(samples: np.ndarray, modalities: int, p: float, seed: int, present: np.ndarray | None = None) -> np.ndarray:
    """Which modalities each sample keeps where each is dropped with probability `p`, one at least being kept: bool (n, modalities).

    Dropped modalities are drawn until one that the sample has is left: with p = 0.5 every non-empty subset is equally likely. Draws depend
    on the seed and the sample's number alone.

    Args:
        samples: numbers of the samples, (n,).
        modalities: M.
        p: from 0 to below 1.
        seed: key of the draws.
        present: which modalities a sample has, bool (n, M); None is all.

    Raises:
        ConfigError: p out of its range.
        DataError: a sample without any modality.
    """
    if not 0 <= p < 1:
        raise ConfigError(f"subset_dropout must be from 0 to below 1, got {p:g}")
    there = np.ones((len(samples), modalities), dtype=bool) if present is None else present
    if not there.any(axis=1).all():
        raise DataError(f"sample {int(samples[~there.any(axis=1)][0])} has none of the {modalities} modalities: leave it out")
    kept, left, attempt = np.zeros_like(there), np.arange(len(samples)), 0
    while len(left):
        kept[left] = there[left] & (keyed_uniform(seed, "subset dropout", attempt, samples[left], modalities) >= p)
        left, attempt = left[~kept[left].any(axis=1)], attempt + 1
    return kept
