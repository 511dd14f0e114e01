"""Collapse gauges: numbers that show whether embeddings still use the space they have.

All take float tensors (B, D), compute in float32 without gradient and return a 0-dim tensor that is read only when logged.
Values that are not finite give a gauge that is not finite, never an error.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinshot.core.errors import DataError
from kinshot.core.sphere import log_mean_potential, mean_power


@torch.no_grad()
def feature_std(z: Tensor) -> Tensor:
    """Spread of the directions of z (B, D): 0 when all rows point the same way, about 1 when they fill the sphere.

    The standard deviation (unbiased) of the l2-normalised rows along each dimension, averaged, times sqrt(D).
    Paper: Chen, He, "Exploring simple Siamese representation learning", 2021, arXiv 2011.10566. Departure: the paper plots
    it without the factor sqrt(D), so that "spread out" reads 1/sqrt(D) there and 1 here, whatever D.
    """
    return normalize(_checked(z), dim=1).std(0).mean() * math.sqrt(z.shape[1])


@torch.no_grad()
def effective_rank(z: Tensor) -> Tensor:
    """How many directions z (B, D) uses, from 1 (collapsed) to min(B, D): exp of the entropy of the singular values.

    Neither centred nor l2-normalised; the singular values are normalised to sum to 1. Zeros everywhere count as rank 1.
    Paper: Roy, Vetterli, "The effective rank: a measure of effective dimensionality", 2007, EUSIPCO (as a gauge of
    representations: Garrido et al., 2023, arXiv 2210.02885, who add 1e-7 to each share).
    """
    z = _checked(z)
    if not torch.isfinite(z).all():  # the decomposition would raise
        return z.new_tensor(math.nan)
    values = torch.linalg.svdvals(z)
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum().exp()


@torch.no_grad()
def alignment(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """How close kin lie: mean distance^alpha between rows of x and y (B, D), l2-normalised. 0 is perfect, 2 is chance at alpha 2.

    Paper: Wang, Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", 2020, arXiv 2005.10242.
    """
    if x.shape != y.shape:
        raise DataError(f"alignment compares two views of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return mean_power((normalize(_checked(x), dim=1) - normalize(_checked(y), dim=1)).norm(dim=1), alpha)


@torch.no_grad()
def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """How evenly z (B, D) covers the sphere: log of the mean of exp(-t distance^2) over pairs. 0 is collapsed, lower is better.

    Spread evenly over a sphere of many dimensions it tends to -2t. Memory: B (B - 1) / 2 floats.
    Paper: Wang, Isola, 2020, arXiv 2005.10242.
    """
    return log_mean_potential(torch.pdist(normalize(_checked(z), dim=1)), t)


@torch.no_grad()
def view_retrieval(x: Tensor, y: Tensor) -> Tensor:
    """How well samples are told apart: share of rows of x (B, D) whose nearest row of y (B, D), by cosine, is their own other view.

    Chance is 1 / B. A tie with another row counts as a miss, so that collapsed embeddings give 0.
    """
    similarity = _directions(x, y) @ normalize(_checked(y), dim=1).T
    own = similarity.diagonal().clone()
    return (own > similarity.fill_diagonal_(-math.inf).amax(1)).float().mean()


@torch.no_grad()
def neighbor_agreement(x: Tensor, y: Tensor, k: int = 5) -> Tensor:
    """How far two views agree on who is like whom: share of the k nearest other samples, by cosine, that x and y (B, D) have in common.

    1 is full agreement, k / (B - 1) is chance; samples that are equally near to all others agree on nobody. Memory: two (B, B) floats.
    Paper: Huh, Cheung, Wang, Isola, "The platonic representation hypothesis", 2024, arXiv 2405.07987 (mutual nearest neighbours, of
    two encoders there and of two views here).
    """
    k = min(k, len(x) - 1)
    first, second = (_neighbors(normalize(_checked(z), dim=1), k) for z in (_directions(x, y), y))
    return (first & second).sum(1).float().div(k).mean()


def _neighbors(z: Tensor, k: int) -> Tensor:
    """Whether each row of unit rows z (B, D) has each other among its k nearest: bool (B, B), none where all are equally near."""
    similarity = (z @ z.T).fill_diagonal_(-math.inf)
    nearest = torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, similarity.topk(k, dim=1).indices, True)
    others = similarity.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), math.inf).amin(1)
    return nearest & (similarity.amax(1) - others > 1e-6)[:, None]


def _directions(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise DataError(f"two views are compared sample by sample, got {tuple(x.shape)} and {tuple(y.shape)}")
    return normalize(_checked(x), dim=1)


def _checked(z: Tensor) -> Tensor:
    if z.dim() != 2 or len(z) < 2:
        raise DataError(f"a collapse gauge needs embeddings (B, D) with B >= 2, got shape {tuple(z.shape)}")
    return z.float()
