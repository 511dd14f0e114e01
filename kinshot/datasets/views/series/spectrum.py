"""Frequencies of a window hidden, or shifted against one another in time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def frequency_masked(x: Tensor, u: Tensor, largest: float) -> Tensor:
    """Normalised windows (B, C, T) without a band of frequencies, the same for all channels; the mean of a window is not one of them.

    Args:
        x: windows; what is not measured counts as 0, the mean of the data, and stays unmeasured.
        u: draws (B, 2) for width and place of the band.
        largest: share of the frequencies that the widest band has; every band has at least one.
    """
    bins = x.shape[2] // 2
    if bins == 0:
        return x
    width = (u[:, :1] * (largest * bins + 1)).floor().clamp(1, bins)
    start = 1 + (u[:, 1:2] * (bins - width + 1)).floor()
    bin_ = torch.arange(bins + 1, device=x.device)
    kept = (bin_ < start) | (bin_ >= start + width)
    return _by_frequency(x, lambda spectrum: spectrum * kept[:, None])


def phase_shifted(x: Tensor, angle: Tensor) -> Tensor:
    """Normalised windows (B, C, T) with the phase of every frequency turned by an angle (B,) in radians: real, of the same energy.

    The mean of a window, and the highest frequency of one of an even number of steps, have no phase and stay. What is not measured counts
    as 0, the mean of the data, and stays unmeasured.
    """
    steps = x.shape[2]
    turns = torch.polar(torch.ones_like(angle), angle)[:, None].repeat(1, steps // 2 + 1)
    turns[:, 0] = 1
    if steps % 2 == 0:
        turns[:, -1] = 1
    return _by_frequency(x, lambda spectrum: spectrum * turns[:, None])


def _by_frequency(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    missing = x.isnan()
    found = torch.fft.irfft(change(torch.fft.rfft(x.masked_fill(missing, 0.0))), n=x.shape[2])
    return found.masked_fill_(missing, torch.nan)
