"""Linear probes: logistic regression on frozen features that are standardised by what needs no labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot.draws import Pool, draw_images
from kinshot.fewshot.heads.logistic import logistic

_CONSTANT = 1e-6
"""A feature whose spread is below this share of its size is constant but for rounding."""
_MAX_ITER = 3000


@dataclass(frozen=True)
class Scaling:
    """Brings every feature to mean 0 and spread 1 over some samples; a constant one to 0.

    Args:
        mean: (D,), float64.
        spread: (D,), float64.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Scaling:
        """That of features (N, D)."""
        x = features.double()
        mean, spread = x.mean(0), x.std(0, unbiased=False)
        return cls(mean, torch.where(spread > _CONSTANT * (1 + mean.abs()), spread, torch.inf))

    def __call__(self, features: Tensor) -> Tensor:
        """Features (N, D) by it: float64."""
        return (features.double() - self.mean) / self.spread


def label_draws(pool: Pool, wanted: int | Sequence[int] | np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Samples whose labels are known, so many of each class: indices (draws, n), drawn without replacement, class by class.

    Of a number for all classes, larger ones extend the draws of smaller ones. All depends on labels and seed alone, so that whatever is
    measured on these samples meets the same draws.

    Args:
        pool: samples by class.
        wanted: samples of each class, or of every class in the pool's order, at most as many as there are.
        draws: how many draws.
        seed: key of the draws.

    Raises:
        ConfigError: a number below 1.
        DataError: a class with fewer samples.
    """
    needed = np.broadcast_to(np.asarray(wanted, dtype=np.int64), pool.counts.shape)
    if draws < 1 or needed.min() < 1:
        raise ConfigError(f"labelled samples of each class and draws must be at least 1, got {int(needed.min())} and {draws}")
    short = np.flatnonzero(needed > pool.counts)
    if len(short):
        label, count, asked = (int(values[short[0]]) for values in (pool.classes, pool.counts, needed))
        raise DataError(f"class {label} has {count} samples, {asked} were to be labelled: ask for at most {int(pool.counts.min())}")
    ways = len(pool.classes)
    slots = np.broadcast_to(np.arange(ways), (draws, ways))
    found = draw_images(np.arange(draws), pool, slots, np.broadcast_to(needed, (draws, ways)), seed)
    return found[:, np.arange(found.shape[2]) < needed[:, None]]


def probe_predictions(features: Tensor, labels: np.ndarray, drawn: np.ndarray, queries: Tensor, C: float) -> np.ndarray:
    """What logistic regression, fitted to each draw of labelled samples, says of others: classes (draws, M).

    L2 penalty on the weights, none on the intercepts, softmax; scikit-learn's `LogisticRegression(C=C)`.

    Args:
        features: (N, D), standardised.
        labels: class of each, int (N,), 0..C-1; every draw has all classes.
        drawn: rows of the labelled samples, (draws, n).
        queries: (M, D), standardised alike.
        C: inverse of the penalty's strength.

    Raises:
        DataError: a fit that did not converge.
    """
    ways, y, found = int(labels.max()) + 1, torch.from_numpy(labels), []
    for rows in map(torch.from_numpy, drawn):
        given = features[rows].unsqueeze(0), y[rows].unsqueeze(0), queries.unsqueeze(0)
        scores = logistic(*given, ways, C=C, max_iter=_MAX_ITER, solver="sklearn", transform="none")
        found.append(scores[0].argmax(1).numpy())
    return np.stack(found)
