"""Attention transfer: the student looks where the teacher looks."""

from __future__ import annotations

from torch import Tensor

from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import full_precision
from kinshot.objectives.distillation.checks import directions, maps


@OBJECTIVES.register("attention_transfer", takes="teacher")
def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """mean (q_s - q_t)^2 over samples and places, q = the map of mean_c F_c^2, flattened and scaled to length 1.

    Paper: Zagoruyko, Komodakis 2016, arXiv 1612.03928.

    Maps of different size are pooled to the smaller first. Channels may differ in number, and a positive factor on either side
    changes nothing.

    Args:
        student: feature maps (B, C, H, W).
        teacher: feature maps (B, C2, H2, W2), without gradient.

    Raises:
        ConfigError: shapes that do not fit together.

    >>> student, teacher = torch.ones(2, 4, 3, 3), torch.ones(2, 8, 3, 3)
    >>> teacher[:, :, 1, 1] = 2  # maps (B, C, H, W), of other channels
    >>> round(kinshot.objectives.attention_transfer(student, teacher).item(), 3)
    0.041
    """
    ours, theirs = maps("attention_transfer", student, teacher)
    with full_precision(ours):
        return (_attention(ours) - _attention(theirs)).square().mean()


def _attention(features: Tensor) -> Tensor:
    """Where a map (B, C, H, W) is active: unit rows (B, H * W)."""
    return directions(features.square().mean(1).flatten(1))
