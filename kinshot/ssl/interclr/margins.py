"""Decision boundaries: how a positive similarity is shifted before it is compared with the negatives."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Margin = Literal["cosine", "arc", "none"]


def apply_margin(cosine: Tensor, kind: Margin, margin: float) -> Tensor:
    """Shifted positive similarities, same shape; a negative margin makes the boundary less strict."""
    if kind == "none" or margin == 0:
        return cosine
    return cosine_margin(cosine, margin) if kind == "cosine" else arc_margin(cosine, margin)


def cosine_margin(cosine: Tensor, margin: float) -> Tensor:
    """`cosine - margin`.

    Paper: Wang et al. 2018, arXiv 1801.09414 (CosFace); with a negative margin in InterCLR, arXiv 2008.11702.
    """
    return cosine - margin


def arc_margin(cosine: Tensor, margin: float) -> Tensor:
    """`cos(angle + margin)` while the sum stays within [0, pi]; beyond that `cosine` minus a constant, so that order is kept.

    Paper: Deng, Guo, Xue, Zafeiriou 2019, arXiv 1801.07698 (ArcFace).

    Args:
        cosine: any shape, in [-1, 1].
        margin: radians, in [-pi, pi].
    """
    inside = (1 - cosine.square()).clamp(min=0)
    # the root's slope is infinite at 0, and infinity times the mask's 0 would be NaN in the gradient
    safe = torch.where(inside > 0, inside, torch.ones_like(inside))
    sine = torch.where(inside > 0, safe.sqrt(), torch.zeros_like(inside))
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    if margin >= 0:
        return torch.where(cosine > math.cos(math.pi - margin), shifted, cosine - margin * math.sin(math.pi - margin))
    return torch.where(cosine < math.cos(margin), shifted, cosine + margin * math.sin(margin))
