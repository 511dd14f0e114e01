"""A part of a window in place of the whole, and a clock that runs fast or slow."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def crop_time(time: Tensor, u: Tensor, least: float) -> Tensor:
    """When a crop, stretched to the whole window, was measured: time (B, T) in [0, 1] to times of the window.

    Args:
        time: of the view.
        u: draws (B, 2).
        least: the smallest share of the window that a crop has.
    """
    share = least + (1 - least) * u[:, :1]
    return share * time + (1 - share) * u[:, 1:2]


def change_rate(time: Tensor, u: Tensor, rate: tuple[float, float]) -> Tensor:
    """When a sensor measured whose clock is off by a factor, log-uniform in `rate`: time (B, T) to times of the window.

    Below 1 a part of the window, anywhere in it, fills the view; above 1 the window is over before the view, whose end, times above 1,
    nothing was measured for. `u` are draws (B, 2).
    """
    low, high = (math.log(one) for one in rate)
    factor = torch.exp(low + (high - low) * u[:, :1])
    return factor * time + (1 - factor).clamp(min=0) * u[:, 1:2]
