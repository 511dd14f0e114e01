"""Where each output pixel of a warped view is read: crop, flip, affine and elastic maps as one linear combination of fixed maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDE = 5
ELASTIC_POINTS = _SIDE * _SIDE
"""Control points of the elastic warp."""


@dataclass(frozen=True)
class WarpStrength:
    """Largest changes; see `Warp`. Rotation is in radians."""

    rotation: float
    scale: tuple[float, float]
    aspect: float
    shear: float
    shift: float
    crop: tuple[float, float]
    crop_aspect: float
    flip: float
    elastic: float


class Geometry:
    """Fixed maps over the output pixels: x, y, one, and a bicubic bump per control point; (3 + points, size * size)."""

    def __init__(self, size: int, device: torch.device) -> None:
        centers = (torch.arange(size, dtype=torch.float32) + 0.5) * (2.0 / size) - 1.0
        y, x = torch.meshgrid(centers, centers, indexing="ij")
        bumps = F.interpolate(torch.eye(ELASTIC_POINTS).view(-1, 1, _SIDE, _SIDE), (size, size), mode="bicubic", align_corners=True)
        maps = torch.cat([torch.stack([x, y, torch.ones_like(x)]), bumps[:, 0]])
        self.size = size
        self.maps = maps.flatten(1).to(device)


def affine(u: Tensor, strength: WarpStrength) -> Tensor:
    """Maps from output to source coordinates in [-1, 1]: uniform draws (B, 12) to (B, 2, 3), rows for source x and y.

    source = crop_center + crop_side * (Flip @ Rotation @ Shear @ diag(1 / (zoom * stretch), stretch / zoom) @ output + shift),
    stretch = e^(aspect / 2).
    """
    signed = 2 * u - 1
    angle, shear = signed[:, 0] * strength.rotation, signed[:, 3] * strength.shear
    low, high = (math.log(s) for s in strength.scale)
    zoom, half = torch.exp(low + (high - low) * u[:, 1]), torch.exp(0.5 * strength.aspect * signed[:, 2])
    width, height = 1 / (zoom * half), half / zoom
    mirror = torch.where(u[:, 6] < strength.flip, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    # a shift by a fraction s of the side is 2s in these coordinates
    rows = [
        torch.stack([mirror * cos * width, mirror * (cos * shear - sin) * height, 2 * strength.shift * signed[:, 4]], 1),
        torch.stack([sin * width, (sin * shear + cos) * height, 2 * strength.shift * signed[:, 5]], 1),
    ]
    matrix = torch.stack(rows, 1)
    sides, center = _crop(u, strength)
    matrix = matrix * sides[:, :, None]
    matrix[:, :, 2] += center
    return matrix


def _crop(u: Tensor, strength: WarpStrength) -> tuple[Tensor, Tensor]:
    """Relative sides (B, 2) and center (B, 2) of a crop that lies wholly inside the image."""
    area = strength.crop[0] + (strength.crop[1] - strength.crop[0]) * u[:, 7]
    ratio = torch.exp(strength.crop_aspect * (2 * u[:, 8] - 1))
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1.0)
    return sides, (2 * u[:, 9:11] - 1) * (1 - sides)


def sampling_grid(geometry: Geometry, u: Tensor, elastic: Tensor, strength: WarpStrength) -> Tensor:
    """The grid (B, size, size, 2) for `grid_sample`, from draws (B, 12) and (B, 2 * points)."""
    weights, maps = affine(u, strength), geometry.maps
    if strength.elastic > 0:
        # uniform on +-sqrt(3): unit variance, and no far outliers that would tear a stroke
        noise = (elastic.reshape(-1, 2, ELASTIC_POINTS) - 0.5) * (strength.elastic * math.sqrt(12.0))
        weights = torch.cat([weights, noise], 2)
    else:
        maps = maps[:3]
    grid = weights @ maps
    return grid.view(-1, 2, geometry.size, geometry.size).permute(0, 2, 3, 1)
