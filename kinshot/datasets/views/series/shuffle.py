"""Channels of a sensor that change places."""

from __future__ import annotations

from torch import Tensor


def shuffled(x: Tensor, u: Tensor) -> Tensor:
    """Windows (B, C, T) with their channels in another order, by draws (B, C)."""
    return x.gather(1, u.argsort(dim=1)[:, :, None].expand_as(x))
