"""Masked average pooling: what a mask of pixels selects of a map of cells, in the conventions of public code.

Every convention is a weight for each cell, and the mean of the features under these weights. Upsampling is linear: the sum of
upsampled features over a mask's pixels is the sum of the features over the mask carried down by the transpose of the upsampling.
No feature is therefore ever upsampled. Axes are separable, so that carrying is a product of two small matrices with the mask.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kinshot.objectives.common import full_precision
from kinshot.samples.class_map import IGNORE
from kinshot.segmentation.dense import BACKGROUND

Pooling = Literal["upsample", "downsample", "nearest"]
"""`upsample`: features bilinearly in the mask's size; `downsample`: mask bilinearly in the features' size; `nearest`: the mask's value at
the pixel that is nearest to the middle of each cell."""

EPS: dict[str, float] = {"upsample": 1e-5, "downsample": 5e-4, "nearest": 5e-4}
"""What public code adds to the sum of the weights: PANet's number where features are upsampled, PFENet's where masks are downsampled."""

_TILE = 1 << 20
"""Most pixels that are numbers at a time: as many as stay in a processor's cache, and in memory that is used again."""


def interpolation(size: int, to: int, *, align_corners: bool = False, like: Tensor) -> Tensor:
    """The matrix (to, size) that brings a line of `size` values to `to` values, linearly; dtype and device of `like`."""
    lines = torch.eye(size, dtype=like.dtype, device=like.device)
    return interpolate(lines[None], to, mode="linear", align_corners=align_corners)[0].mT


def cell_weights(
    mask: Tensor, size: tuple[int, int], pooling: Pooling = "upsample", *, align_corners: bool = False, dtype: torch.dtype = torch.float32
) -> Tensor:
    """How much each cell of a map counts in the mean over a mask: (..., h, w), at least 0.

    Args:
        mask: pixels that count, bool or weights (..., H, W).
        size: height and width of the map in cells.
        pooling: the convention. Under `upsample` a cell's weight is its share of all pixels that an upsampled map would average, and the
            weights' sum is that of the mask.
        align_corners: which bilinear interpolation; nothing to `nearest`.
        dtype: of the weights: float32 or float64.
    """
    height, width = mask.shape[-2:]
    if pooling == "nearest":
        return mask[..., _nearest(height, size[0], mask)[:, None], _nearest(width, size[1], mask)].to(dtype)
    like = torch.empty(0, dtype=dtype, device=mask.device)
    if pooling == "downsample":
        rows = interpolation(height, size[0], align_corners=align_corners, like=like)
        columns = interpolation(width, size[1], align_corners=align_corners, like=like).mT
    else:
        rows = interpolation(size[0], height, align_corners=align_corners, like=like).mT
        columns = interpolation(size[1], width, align_corners=align_corners, like=like)
    return carried(mask, rows, columns)


def carried(mask: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ mask @ columns of masks (..., H, W), in the precision of the matrices (h, H) and (W, w): (..., h, w)."""
    images = mask.reshape(-1, *mask.shape[-2:]).split(max(1, _TILE // (mask.shape[-2] * mask.shape[-1])))
    with full_precision(rows):
        parts = [rows @ part.to(rows.dtype) @ columns for part in images]
    return torch.cat(parts).reshape(*mask.shape[:-2], len(rows), columns.shape[1])


def _nearest(size: int, to: int, like: Tensor) -> Tensor:
    """For `to` cells over a line of `size` pixels, the pixel in which the middle of each lies."""
    places = torch.arange(size, dtype=torch.float64, device=like.device)
    return interpolate(places[None, None], to, mode="nearest-exact")[0, 0].long()


def masked_mean(features: Tensor, weights: Tensor, eps: float) -> Tensor:
    """sum_x w(x) f(x) / (sum_x w(x) + eps): features (..., C, h, w) and weights (..., M, h, w) of M masks give (..., M, C).

    A mask without weight gives a zero vector. In float32 at least; gradients reach the features.
    """
    return _sums(features, weights) / (weights.flatten(-2).sum(-1, keepdim=True) + eps)


def _sums(features: Tensor, weights: Tensor) -> Tensor:
    """sum_x w(x) f(x): (..., C, h, w) and (..., M, h, w) give (..., M, C)."""
    wide = torch.promote_types(features.dtype, weights.dtype)
    with full_precision(features):
        return weights.flatten(-2).to(wide) @ features.flatten(-2).to(wide).mT


def mean_of_present(vectors: Tensor, present: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Mean over the axes `dim` of those vectors (..., C) that are `present`, bool (...); zero where none is.

    `dim` counts axes of `present` from the front.
    """
    kept = present.unsqueeze(-1).to(vectors.dtype)
    return (vectors * kept).sum(dim) / kept.sum(dim).clamp_min(1)


def background_pixels(masks: Tensor, *, ignored: bool = False, other_ways: Literal["drop", "background"] = "drop") -> Tensor:
    """Which pixels of way maps are background, bool of the same shape.

    Args:
        masks: way maps (E, W, K, H, W): 0 background, w + 1 way w, 255 nothing.
        ignored: count pixels of 255 as background, as PANet does, whose background is all that has none of the episode's labels.
        other_ways: whether in an image of one way the pixels of another are background to it, or nothing (PANet).
    """
    masks = masks.to(torch.uint8)  # every value is one; comparing them then reads an eighth of the bytes
    found = masks == BACKGROUND
    if ignored:
        found = found | (masks == IGNORE)
    if other_ways == "background":
        own = torch.arange(1, masks.shape[1] + 1, dtype=masks.dtype, device=masks.device).view(-1, 1, 1, 1)
        found = found | ((masks != own) & (masks != IGNORE) & (masks != BACKGROUND))
    return found


def shot_prototypes(
    support: Tensor, masks: Tensor, pooling: Pooling = "upsample", *, align_corners: bool = False, eps: float | None = None
) -> tuple[Tensor, Tensor]:
    """Masked mean of every support image: prototypes (..., M, C) and whether each mask has any weight, bool (..., M).

    Args:
        support: maps (..., C, h, w).
        masks: pixels that count, M masks to an image, bool (..., M, H, W).
        pooling: the convention.
        align_corners: which bilinear interpolation.
        eps: added to the sum of the weights; None for that of the convention's public code.
    """
    weights = _weights(support, masks, pooling, align_corners)
    return masked_mean(support, weights, EPS[pooling] if eps is None else eps), weights.flatten(-2).amax(-1) > 0


def pooled_prototypes(
    support: Tensor, masks: Tensor, pooling: Pooling = "upsample", *, align_corners: bool = False, eps: float | None = None
) -> Tensor:
    """Masked mean over all pixels of all shots at once: maps (..., K, C, h, w) and masks (..., K, M, H, W) give (..., M, C)."""
    weights = _weights(support, masks, pooling, align_corners)
    total = weights.flatten(-2).sum(-1, keepdim=True)  # (..., K, M, 1)
    return _sums(support, weights).sum(-3) / (total.sum(-3) + (EPS[pooling] if eps is None else eps))


def _weights(support: Tensor, masks: Tensor, pooling: Pooling, align_corners: bool) -> Tensor:
    height, width = support.shape[-2:]
    wide = torch.promote_types(support.dtype, torch.float32)
    return cell_weights(masks, (height, width), pooling, align_corners=align_corners, dtype=wide)
