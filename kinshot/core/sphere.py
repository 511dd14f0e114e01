"""Alignment and uniformity of given distances, differentiable: what the collapse gauges and the objectives share.

Paper: Wang, Isola, "Understanding contrastive representation learning through alignment and uniformity on the
hypersphere", 2020, arXiv 2005.10242.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Stands for the logarithm of 0; finite, so that nothing to average over leaves no NaN in the gradient.
_ABSENT = -1e30


def mean_power(distances: Tensor, alpha: float, weights: Tensor | None = None) -> Tensor:
    """Alignment: mean of distance^alpha, a 0-dim tensor. Its gradient at distance 0 is 0 for every alpha.

    Args:
        distances: of pairs of unit rows, any shape.
        alpha: exponent, above 0.
        weights: of each pair, bool or float in the same shape; None = all 1. Weights that are all 0 give 0.
    """
    zero = distances == 0
    powers = torch.where(zero, 1, distances).pow(alpha).masked_fill(zero, 0)
    if weights is None:
        return powers.mean()
    mass = weights.sum(dtype=powers.dtype)
    return (powers * weights).sum() / torch.where(mass > 0, mass, 1)


def log_mean_potential(distances: Tensor, t: float, kept: Tensor | None = None) -> Tensor:
    """Uniformity: log of the mean of exp(-t distance^2), a 0-dim tensor of at most 0.

    Args:
        distances: of pairs of unit rows, any shape, at least one.
        t: sharpness of the potential, above 0.
        kept: bool in the same shape, the pairs that count; None = all. No pair at all gives 0.
    """
    exponents = -t * distances.square().flatten()
    if kept is None:
        return torch.logsumexp(exponents, 0) - math.log(len(exponents))
    count = kept.sum(dtype=exponents.dtype)
    total = torch.logsumexp(exponents.masked_fill(~kept.flatten(), _ABSENT), 0)
    return torch.where(count > 0, total - count.clamp_min(1).log(), 0)
