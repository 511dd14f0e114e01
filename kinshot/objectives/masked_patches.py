"""Masked patches: pixels of hidden patches are painted, and nothing is asked of those that were visible."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import at_least_float32, full_precision

_EPS = 1e-6


def patches_of(images: Tensor, side: int) -> Tensor:
    """Square patches of images (B, C, H, W) along their rows, (B, N, side * side * C), a pixel's channels side by side.

    Raises ConfigError for images that patches do not fill.
    """
    if images.dim() != 4 or side < 1 or images.shape[2] % side or images.shape[3] % side:
        raise ConfigError(f"patches: expected images (B, C, H, W) of whole patches of {side}, got {tuple(images.shape)}")
    grid = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, rows, side, columns, side)
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def masked_patches(wanted: Tensor, painted: Tensor, *, normalize: bool = True) -> Tensor:
    """Mean of (painted - wanted)^2 over the pixels of hidden patches.

    Paper: He, Chen, Xie, Li, Dollár, Girshick 2021, arXiv 2111.06377.

    Args:
        wanted: the hidden patches (B, M, P); no gradient flows into them.
        painted: what the network says, of the same shape.
        normalize: take each patch's own mean out of what is wanted, and its spread, so that patches of weak contrast count as much.

    Raises:
        ConfigError: shapes that differ.
    """
    if wanted.dim() != 3 or wanted.shape != painted.shape:
        raise ConfigError(f"masked_patches: expected two (B, M, P) alike, got {tuple(wanted.shape)} and {tuple(painted.shape)}")
    with full_precision(painted):
        target, said = at_least_float32(wanted.detach()), at_least_float32(painted)
        if normalize:
            target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + _EPS).sqrt()
        return (said - target).square().mean()
