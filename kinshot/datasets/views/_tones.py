"""Solarizing and posterizing by kornia, each sample by its own draw. kornia is imported where one of them is asked for."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_BITS = 8
_NEVER = 2.0
"""A threshold that no value in [0, 1] reaches."""


def solarized(x: Tensor, u: Tensor, probability: float, threshold: float) -> Tensor:
    """Values from `threshold` on turned round to 1 - value, with `probability`: x (B, C, H, W) in [0, 1], draws u (B, 1)."""
    from kornia.enhance import solarize

    return solarize(x, torch.where(u[:, 0] < probability, threshold, _NEVER))


def posterized(x: Tensor, u: Tensor, probability: float, least: int) -> Tensor:
    """Only the upper `least` to 7 of 8 bits of every value left, with `probability`: x (B, C, H, W) in [0, 1], draws u (B, 2)."""
    from kornia.enhance import posterize

    bits = least + (u[:, 1] * (MOST_BITS - least)).long()
    return posterize(x, torch.where(u[:, 0] < probability, bits, MOST_BITS))
