"""Colour jitter as one 3x3 matrix and one bias per sample, and a per-sample blur."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_HUE = 0.5
_LUMA = (0.299, 0.587, 0.114)
_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@dataclass(frozen=True)
class ColorStrength:
    """Probabilities and largest changes; see `Warp`."""

    jitter: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    gray: float

    def active(self, channels: int) -> bool:
        """Whether anything can change in images with this many channels."""
        tones = self.brightness > 0 or self.contrast > 0
        tints = channels == 3 and (self.saturation > 0 or self.hue > 0)
        return (self.jitter > 0 and (tones or tints)) or (channels == 3 and self.gray > 0)


def recolor(x: Tensor, u: Tensor, strength: ColorStrength) -> Tensor:
    """Jittered pixels in [0, 1]: x (B, C, H, W) in [0, 1], draws u (B, 7); saturation, hue and gray need C == 3."""
    batch, channels, height, width = x.shape
    on = u[:, 0] < strength.jitter
    brightness, contrast, saturation = (
        torch.where(on, 1 + (2 * u[:, i] - 1) * s, 1.0)
        for i, s in ((1, strength.brightness), (2, strength.contrast), (3, strength.saturation))
    )
    flat = x.reshape(batch, channels, height * width)
    average = flat.mean(2)
    if channels != 3:
        bias = (1 - contrast)[:, None] * brightness[:, None] * average.mean(1, keepdim=True)
        return (flat * (brightness * contrast)[:, None, None] + bias[:, :, None]).clamp_(0, 1).view_as(x)
    angle = torch.where(on, (2 * u[:, 4] - 1) * strength.hue, 0.0) * (2 * math.pi)
    saturation = torch.where(u[:, 5] < strength.gray, 0.0, saturation)
    tint = _tint(saturation, angle)
    luma = average @ x.new_tensor(_LUMA)
    bias = ((1 - contrast) * brightness * luma)[:, None].expand(-1, 3)
    matrix = tint * (brightness * contrast)[:, None, None]
    return torch.baddbmm((tint @ bias[:, :, None]), matrix, flat).clamp_(0, 1).view_as(x)


def _tint(saturation: Tensor, angle: Tensor) -> Tensor:
    """(B, 3, 3): the chroma of YIQ scaled by `saturation` and rotated by `angle`; luma stays."""
    to_yiq = saturation.new_tensor(_YIQ)
    cos, sin, zero = saturation * angle.cos(), saturation * angle.sin(), torch.zeros_like(angle)
    rows = [torch.stack(r, 1) for r in ((zero + 1, zero, zero), (zero, cos, -sin), (zero, sin, cos))]
    return torch.linalg.inv(to_yiq) @ torch.stack(rows, 1) @ to_yiq


def blur(x: Tensor, u: Tensor, probability: float, sigma: tuple[float, float]) -> Tensor:
    """Gaussian blur of a random standard deviation in `sigma` (pixels) with `probability`: x (B, C, H, W), draws u (B, 2)."""
    radius = min(math.ceil(2 * sigma[1]), min(x.shape[-2:]) - 1)
    deviation = (sigma[0] + (sigma[1] - sigma[0]) * u[:, 1])[:, None]
    offsets = torch.arange(-radius, radius + 1, device=x.device)
    taps = torch.exp(-0.5 * (offsets / deviation).square())
    identity = (offsets == 0).float().expand_as(taps)
    taps = torch.where((u[:, 0] < probability)[:, None], taps / taps.sum(1, keepdim=True), identity)
    for dim, pad in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        padded, size = F.pad(x, pad, mode="reflect"), x.shape[dim]
        x = torch.zeros_like(x)
        for i in range(2 * radius + 1):
            x.addcmul_(padded.narrow(dim, i, size), taps[:, i].view(-1, 1, 1, 1))
    return x
