"""Windows read between their steps, with gaps that neither grow nor close."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDING = 1e-3  # steps; the edge of a window is half a step before its first and after its last


def read(x: Tensor, positions: Tensor) -> Tensor:
    """Windows (B, C, T) at positions (B, N) in steps, the same for all channels: float32 (B, C, N).

    Where a channel is measured on both sides of a position, the value lies on the line between them. Next to a gap it is that of the
    nearest step, NaN where that is: nothing is invented within a gap, which is read as wide as it is. Outside of a window there is nothing.
    """
    steps = x.shape[2]
    before = positions.floor().clamp(0, steps - 1)
    weight = (positions - before).clamp(0, 1)[:, :, None]
    rows = before.long() + torch.arange(len(x), device=x.device)[:, None] * steps
    last = (before < steps - 1).long()
    # rows of all channels, as those of a step lie side by side: several times faster than reading channel by channel
    flat = x.transpose(1, 2).reshape(-1, x.shape[1])
    left, right = (flat.index_select(0, which.flatten()).view(*positions.shape, -1) for which in (rows, rows + last))
    between = torch.lerp(left, right, weight)
    found = torch.where(between.isnan(), torch.where(weight < 0.5, left, right), between)
    outside = (positions < -0.5 - _ROUNDING) | (positions > steps - 0.5 + _ROUNDING)
    return found.masked_fill_(outside[:, :, None], torch.nan).transpose(1, 2).contiguous()


def measured_end(x: Tensor) -> Tensor:
    """Where the last step of windows (B, C, T) ends at which a channel is measured, as a share of T: (B,), 0 where there is none."""
    steps = torch.arange(1, x.shape[2] + 1, device=x.device)
    return ((~x.isnan()).any(dim=1) * steps).amax(dim=1) / x.shape[2]
