"""Classes divided into sub-classes by where their samples lie, and how well these are finer classes that nobody named."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_seed
from kinshot.kin.clusters import ITERATIONS, STARTS

FITS = ("kmeans", "em")


def divided(
    z: np.ndarray, y: np.ndarray, count: int, *, fit: Literal["kmeans", "em"] = "kmeans", seed: int = 0, before: np.ndarray | None = None
) -> np.ndarray:
    """Sub-class of each sample in its class, int64 (N,): 0..count-1, and -1 where the class is unknown.

    A class of n samples has at most n // 2 sub-classes, and no more than it has different samples. Sub-classes have no order; with
    `before` they take those numbers by which most samples keep theirs.

    Paper: Marrero Fernandez et al. 2020, arXiv 2001.06612 (sub-classes by EM or k-means inside each class), a reconstruction.

    Args:
        z: embeddings, float (N, D).
        y: classes, int64 (N,), -1 unknown.
        count: sub-classes of a class at most, from 1.
        fit: "kmeans", or "em" of Gaussians, each of its own weight and of one variance in all directions.
        seed: key of the starts.
        before: sub-classes as they were, int64 (N,).

    Raises:
        ConfigError: a count below 1, another way to fit, or arrays that do not fit together.

    >>> divided(np.array([[0.0], [0.1], [9.0], [9.1], [5.0]]), np.array([0, 0, 0, 0, -1]), 2, before=np.array([1, 1, 0, 0, -1])).tolist()
    [1, 1, 0, 0, -1]
    """
    check_divided(count, fit)
    if z.ndim != 2 or y.shape != z.shape[:1] or (before is not None and before.shape != y.shape):
        raise ConfigError(f"divided: expected embeddings (N, D) and classes (N,), got {z.shape} and {y.shape}")
    found = np.full(len(y), -1, dtype=np.int64)
    for c in np.unique(y[y >= 0]):
        rows = np.flatnonzero(y == c)
        x = z[rows].astype(np.float64)
        parts = max(1, min(count, len(rows) // 2, len(np.unique(x, axis=0))))
        own = _fitted(x, parts, fit, keyed_seed(seed, "subclasses", int(c)) % 2**32) if parts > 1 else np.zeros(len(rows), dtype=np.int64)
        found[rows] = own if before is None else renamed(own, before[rows], count)
    return found


def check_divided(count: int, fit: str) -> None:
    """Raises ConfigError for a setting out of range."""
    if count < 1:
        raise ConfigError(f"count: expected at least 1 sub-class of a class, got {count}")
    if fit not in FITS:
        raise ConfigError(f"fit: expected one of {', '.join(FITS)}, got {fit!r}")


def renamed(now: np.ndarray, before: np.ndarray, count: int) -> np.ndarray:
    """Groups (n,) 0..count-1 by other numbers of that range, by which most members have the number that they had `before` (n,)."""
    from scipy.optimize import linear_sum_assignment

    shared = np.zeros((count, count))
    known = before >= 0
    np.add.at(shared, (now[known], before[known]), 1)
    _, names = linear_sum_assignment(shared, maximize=True)
    found: np.ndarray = names[now].astype(np.int64)
    return found


def agreement(y: np.ndarray, parts: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How well sub-classes are the finer classes `truth`, over samples that have class, sub-class and truth.

    Returns:
        `nmi`, `ami` and `ari` of all sub-classes with the truth; `ari_within`, the mean adjusted Rand index inside a class, over those
        that hold several finer ones (0 for whole classes or chance, NaN where none does); `samples`, `classes`, `divided` (classes that
        hold several), `subclasses` and `truth` (groups of either kind).
    """
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

    known = (y >= 0) & (parts >= 0) & (truth >= 0)
    y, parts, truth = y[known], parts[known], truth[known]
    _, groups = np.unique(np.stack([y, parts], axis=1), axis=0, return_inverse=True)
    inside = [adjusted_rand_score(truth[own], parts[own]) for c in np.unique(y) for own in [y == c] if len(np.unique(truth[own])) > 1]
    return {
        "nmi": float(normalized_mutual_info_score(truth, groups)),
        "ami": float(adjusted_mutual_info_score(truth, groups)),
        "ari": float(adjusted_rand_score(truth, groups)),
        "ari_within": float(np.mean(inside)) if inside else float("nan"),
        "samples": len(y),
        "classes": len(np.unique(y)),
        "divided": len(inside),
        "subclasses": len(np.unique(groups)),
        "truth": len(np.unique(truth)),
    }


def _fitted(x: np.ndarray, parts: int, fit: str, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    made = (
        KMeans(parts, n_init=STARTS, max_iter=ITERATIONS, random_state=seed)
        if fit == "kmeans"
        else GaussianMixture(parts, covariance_type="spherical", max_iter=ITERATIONS, random_state=seed)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where EM still moves after so many rounds, the samples have their places
        found: np.ndarray = made.fit_predict(x)
    return found.astype(np.int64)
