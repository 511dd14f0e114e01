"""Windows read between their steps, with gaps that neither grow nor close."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_ROUNDING = 1e-3  # steps; the edge of a window is half a step before its first and after its last


def read(x: Tensor, positions: Tensor) -> Tensor:
    """Windows (B, C, T), or of frames (B, C, T, H, W), at positions (B, N) in steps, the same for all channels: float32 (B, C, N, ...).

    Where a channel is measured on both sides of a position, the value lies on the line between them. Next to a gap it is that of the
    nearest step, NaN where that is: nothing is invented within a gap, which is read as wide as it is. Outside of a window there is nothing.
    Of frames the nearest is shown, as no camera shows a mean of two.
    """
    steps = x.shape[2]
    outside = (positions < -0.5 - _ROUNDING) | (positions > steps - 0.5 + _ROUNDING)
    if x.ndim > 3:
        shown = take_steps(x, (positions + 0.5).floor().clamp(0, steps - 1).long())
        return shown.masked_fill_(beside(outside[:, None], x), torch.nan)
    before = positions.floor().clamp(0, steps - 1)
    weight = (positions - before).clamp(0, 1)
    left = before.long()
    right = (left + 1).clamp(max=steps - 1)
    nearest = torch.where(weight < 0.5, left, right)
    padded = pad(x, (0, 1), value=torch.nan)  # one step more, which is read outside

    def at(step: Tensor) -> Tensor:
        return padded.gather(2, step.masked_fill(outside, steps)[:, None].expand(-1, x.shape[1], -1))

    between = torch.lerp(at(left), at(right), weight[:, None])
    return torch.where(between.isnan(), at(nearest), between)


def take_steps(x: Tensor, steps: Tensor) -> Tensor:
    """Steps (B, N), int64, of windows (B, C, T, ...), the same of all channels: (B, C, N, ...)."""
    if x.ndim == 3:
        return x.gather(2, steps[:, None].expand(-1, x.shape[1], -1))
    return x.transpose(1, 2)[torch.arange(len(x), device=x.device)[:, None], steps].transpose(1, 2)


def beside(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (B, C or 1, T or 1) shaped to stand beside windows (B, C, T, ...)."""
    return mask.view(*mask.shape, *[1] * (x.ndim - 3))


def measured_end(x: Tensor) -> Tensor:
    """Where the last step of windows (B, C, T, ...) ends at which anything is measured, as a share of T: (B,), 0 where nothing is."""
    steps = torch.arange(1, x.shape[2] + 1, device=x.device)
    there = (~x.isnan()).any(dim=1)
    return ((there.flatten(2).any(dim=2) if there.ndim > 2 else there) * steps).amax(dim=1) / x.shape[2]
