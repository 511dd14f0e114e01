"""Factors on what was measured: for a channel, for a window, or changing slowly along it."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from kinshot.datasets.views.series.normal import normal


def scaled(x: Tensor, u: Tensor, deviation: float, mean: float = 1.0) -> Tensor:
    """Windows (B, C, T), each channel times a normal number of its own, by draws (B, C)."""
    return x * (mean + deviation * normal(u))[:, :, None]


def negated(x: Tensor, u: Tensor, probability: float) -> Tensor:
    """Windows (B, C, T), of the opposite sign where the draw, (B, 1), is below the probability."""
    return x * torch.where(u < probability, -1.0, 1.0)[:, :, None]


def magnitude_warped(x: Tensor, u: Tensor, deviation: Tensor) -> Tensor:
    """Windows (B, C, T), each channel times a smooth curve of its own: a cubic spline through normal numbers around 1 at even distances.

    Paper: Um et al., 2017, arXiv:1706.00527

    Args:
        x: windows.
        u: draws (B, C, K), one for each knot, the ends among them.
        deviation: standard deviation at the knots, (B,); a window of deviation 0 stays as it is.
    """
    return x * (1 + deviation[:, None, None] * normal(u) @ _spline(u.shape[2], x.shape[2]).to(x.device))


@cache
def _spline(knots: int, steps: int) -> Tensor:
    """What each knot of a natural cubic spline adds to each step: (K, T)."""
    import numpy as np
    from scipy.interpolate import CubicSpline

    centers = (np.arange(steps) + 0.5) / steps
    return torch.from_numpy(CubicSpline(np.linspace(0, 1, knots), np.eye(knots), bc_type="natural")(centers).T.astype(np.float32))
