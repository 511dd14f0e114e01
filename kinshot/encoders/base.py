"""What an encoder takes: the input specification and the one place where pixels are normalised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class InputSpec:
    """Pixels that an encoder was made for.

    Args:
        channels: 1 for gray, 3 for colour.
        size: height and width in pixels.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
    """

    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def normalize(images: Tensor, spec: InputSpec) -> Tensor:
    """uint8 or [0, 1] float (B, C, H, W) to zero mean and unit variance, float32, on the same device."""
    x = images.float().div(255) if images.dtype == torch.uint8 else images.float()
    mean = torch.tensor(spec.mean, device=x.device).view(1, -1, 1, 1)
    std = torch.tensor(spec.std, device=x.device).view(1, -1, 1, 1)
    return (x - mean) / std
