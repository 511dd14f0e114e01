"""Where each pixel of a warped view is read: crop, flip, affine and elastic maps as one linear combination of fixed maps.

Coordinates are (x, y) in [-1, 1] over the whole extent of a picture, the same for an image and its mask whatever their pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDE = 5
ELASTIC_POINTS = _SIDE * _SIDE
"""Control points of the elastic warp."""

_CUBIC = -0.75  # the constant of torch's bicubic kernel


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
    """Fixed maps over the pixels of a view: x, y, one, and a bicubic bump per control point; (3 + points, height * width).

    Args:
        size: (height, width) of the view.
        device: where the maps are.
        of: (height, width) of the views that the plan was drawn for, over whose pixels the bumps are spread.
    """

    def __init__(self, size: tuple[int, int], device: torch.device, of: tuple[int, int]) -> None:
        self.size = size
        y, x = torch.meshgrid(*(_centers(side) for side in size), indexing="ij")
        if size == of:
            eye = torch.eye(ELASTIC_POINTS).view(-1, 1, _SIDE, _SIDE)
            bumps = F.interpolate(eye, size, mode="bicubic", align_corners=True).flatten(1)
        else:
            bumps = bumps_at(pixels_of(torch.stack([x, y], 2).view(1, -1, 2), of), of)[0]
        self.maps = torch.cat([torch.stack([x, y, torch.ones_like(x)]).flatten(1), bumps]).to(device)

    def grid(self, coefficients: Tensor) -> Tensor:
        """The grid (B, height, width, 2) for `grid_sample` of coefficients (B, 2, 3 or 3 + points)."""
        grid = coefficients @ self.maps[: coefficients.shape[2]]
        return grid.view(-1, 2, *self.size).permute(0, 2, 3, 1)


def _centers(side: int) -> Tensor:
    return (torch.arange(side, dtype=torch.float32) + 0.5) * (2.0 / side) - 1.0


def pixels_of(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Points (..., 2) in [-1, 1] as (x, y) in pixels of a picture of (height, width): the centre of the first pixel is 0."""
    sides = points.new_tensor([size[1], size[0]])
    return (points + 1) * (sides / 2) - 0.5


def extent_of(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `pixels_of`."""
    sides = pixels.new_tensor([size[1], size[0]])
    return (pixels + 0.5) * (2 / sides) - 1


def bumps_at(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The control points' bumps at points (B, N, 2), (x, y) in pixels of a view of (height, width): (B, points, N).

    At whole pixels these are the maps of `Geometry`: bicubic interpolation, first and last pixel on the first and last control point.
    """
    across, down = (_cubic(pixels[..., i] * ((_SIDE - 1) / max(size[1 - i] - 1, 1))) for i in (0, 1))
    return (down[:, :, :, None] * across[:, :, None, :]).flatten(2).mT


def _cubic(place: Tensor) -> Tensor:
    """Weights (B, N, side) of the control points along one axis for places (B, N) in their distance; beyond the ends the last counts."""
    first = place.floor()
    weights = place.new_zeros(*place.shape, _SIDE)
    for tap in (-1, 0, 1, 2):
        distance = (place - first - tap).abs()
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
        where = (first + tap).clamp(0, _SIDE - 1).long()
        weights.scatter_add_(2, where[..., None], torch.where(distance <= 1, near, far)[..., None])
    return weights


def coefficients(u: Tensor, elastic: Tensor, strength: WarpStrength, aspect: float = 1.0) -> Tensor:
    """Coefficients (B, 2, 3) of the fixed maps, (B, 2, 3 + points) where there is an elastic warp; rows for source x and y.

    Args:
        u: uniform draws (B, 12).
        elastic: uniform draws (B, 2 * points).
        strength: largest changes.
        aspect: width over height of the picture, in which a rotation is to be one of its pixels.
    """
    weights = affine(u, strength, aspect)
    if strength.elastic > 0:
        # uniform on +-sqrt(3): unit variance, and no far outliers that would tear a stroke
        noise = (elastic.reshape(-1, 2, ELASTIC_POINTS) - 0.5) * (strength.elastic * math.sqrt(12.0))
        weights = torch.cat([weights, noise], 2)
    return weights


def turned(weights: Tensor, quarters: int) -> Tensor:
    """Coefficients (B, 2, ...) that read a square picture turned counterclockwise by so many quarters."""
    for _ in range(quarters % 4):
        weights = torch.stack([-weights[:, 1], weights[:, 0]], dim=1)
    return weights


def affine(u: Tensor, strength: WarpStrength, aspect: float = 1.0) -> Tensor:
    """Maps from output to source coordinates in [-1, 1]: uniform draws (B, 12) to (B, 2, 3), rows for source x and y.

    source = crop_center + crop_side * (Flip @ Rotation @ Shear @ diag(1 / (zoom * stretch), stretch / zoom) @ output + shift),
    stretch = e^(aspect / 2); rotation and shear are those of square pixels.
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
    if aspect != 1:
        matrix[:, 0, 1] /= aspect
        matrix[:, 1, 0] *= aspect
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
