"""Score maps: the cosine of every cell with every prototype, the two orders of upsampling, and their cross-entropy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, normalize

from kinshot.objectives.common import full_precision
from kinshot.samples.class_map import IGNORE

_EPS = 1e-8  # a zero vector has the cosine 0 with everything


def cosine_maps(query: Tensor, prototypes: Tensor, scale: float = 20.0) -> Tensor:
    """scale * cos(f(x), p) of every query cell with every prototype: (E, Q, P, h, w), float32 at least.

    Args:
        query: maps (E, Q, C, h, w).
        prototypes: (E, P, C), or (E, Q, P, C) where each query has its own; a zero one scores 0 everywhere.
        scale: factor on the cosine; PANet's is 20.
    """
    wide = torch.promote_types(torch.promote_types(query.dtype, prototypes.dtype), torch.float32)
    cells, rows = query.flatten(-2).to(wide), normalize(prototypes.to(wide), dim=-1, eps=_EPS)
    if rows.ndim == 3:
        rows = rows.unsqueeze(1)
    # dividing the product by the cells' norms saves a normalised copy of the large operand
    norms = torch.linalg.vector_norm(cells, dim=-2, keepdim=True).clamp_min(_EPS)
    with full_precision(query):
        cosines = (rows @ cells) / norms
    return (scale * cosines).unflatten(-1, query.shape[-2:])


def upsampled(scores: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Scores (..., K, h, w) in another size, bilinear: (..., K, *size)."""
    if tuple(scores.shape[-2:]) == tuple(size):
        return scores
    flat = scores.reshape(-1, *scores.shape[-3:])
    return interpolate(flat, size, mode="bilinear", align_corners=align_corners).reshape(*scores.shape[:-2], *size)


def predicted(scores: Tensor, size: tuple[int, int], *, order: Literal["after", "before"] = "after", align_corners: bool = False) -> Tensor:
    """The label of every pixel of maps of another size: int64 (..., *size); the lowest of equal ones.

    Args:
        scores: (..., K, h, w).
        size: height and width.
        order: the best label `after` upsampling the scores bilinearly (PANet), or `before`, each pixel with the label of its nearest cell.
        align_corners: which bilinear interpolation; nothing to `before`.
    """
    if order == "after":
        return best_labels(upsampled(scores, size, align_corners=align_corners))
    labels = best_labels(scores)
    flat = labels.reshape(-1, 1, *labels.shape[-2:]).double()  # labels are exact in float64
    return interpolate(flat, size, mode="nearest-exact").long().reshape(*labels.shape[:-2], *size)


def best_labels(scores: Tensor) -> Tensor:
    """The label with the highest score, the lowest of equal ones: (..., K, H, W) to int64 (..., H, W).

    Label by label: `argmax` over an axis that is not the last takes about ten times as long on a processor.
    """
    each = scores.detach().unbind(-3)
    best, found = each[0], torch.zeros_like(each[0], dtype=torch.int64)
    for label, score in enumerate(each[1:], start=1):
        found.masked_fill_(score > best, label)
        best = torch.maximum(best, score)
    return found


def pixel_cross_entropy(scores: Tensor, target: Tensor, *, align_corners: bool = False, ignore: int = IGNORE) -> Tensor:
    """Mean cross-entropy over the pixels that say something, of scores upsampled to them: a number, 0 where none does.

    Args:
        scores: (..., K, h, w), logits.
        target: labels (..., H, W), integers: 0 to K - 1, or `ignore`.
        align_corners: which bilinear interpolation.
        ignore: the label of pixels that do not count.
    """
    height, width = target.shape[-2:]
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    logits = upsampled(wide, (height, width), align_corners=align_corners)
    logits, labels = logits.reshape(-1, *logits.shape[-3:]), target.reshape(-1, height, width).long()
    with full_precision(scores):
        total = cross_entropy(logits, labels, ignore_index=ignore, reduction="sum")
    return total / (labels != ignore).sum().clamp_min(1)
