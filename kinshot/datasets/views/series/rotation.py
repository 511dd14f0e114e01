"""A device worn another way round: the axes of its sensors turned together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROTATION_DRAWS = 3
_GRID = 2048  # points of the table of angles


def rotations(u: Tensor, largest: float) -> Tensor:
    """Rotations (B, 3, 3) in three dimensions, uniform among those by at most `largest` radians; pi is all of SO(3).

    `u` are draws (B, 3): two for the axis, uniform on the sphere, one for the angle, whose density is proportional to 1 - cos.
    """
    z, around = 2 * u[:, 0] - 1, 2 * math.pi * u[:, 1]
    flat = (1 - z**2).clamp(min=0).sqrt()
    angle = _angle(u[:, 2], largest)
    zero = torch.zeros_like(z)
    x, y = flat * around.cos(), flat * around.sin()
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    sine, cosine = (part.view(-1, 1, 1) for part in (angle.sin(), angle.cos()))
    return torch.eye(3, device=u.device) + sine * cross + (1 - cosine) * (cross @ cross)


def _angle(u: Tensor, largest: float) -> Tensor:
    """The angle below which a share `u` of all rotations by at most `largest` lies."""
    angles = torch.linspace(0, largest, _GRID, device=u.device, dtype=torch.float64)
    share = angles - angles.sin()
    wanted = u.double() * share[-1]
    above = torch.searchsorted(share, wanted, right=True).clamp(1, _GRID - 1)
    part = (wanted - share[above - 1]) / (share[above] - share[above - 1])
    return torch.lerp(angles[above - 1], angles[above], part).to(u.dtype)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Vectors (B, 3, T), in units of their own, turned by rotations (B, 3, 3).

    A step of which an axis is not measured has no direction: none of its axes is afterwards.
    """
    return rotation @ x
