"""ArcFace: the own class must win by a margin of the angle."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, check_choice, full_precision
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.directions import cosines
from kinshot.objectives.proxies.rows import ProxyRows, checked, of_class, share, with_own

PAST = ("linear", "turn", "easy")


def add_angle(cosine: Tensor, margin: float, past: Literal["linear", "turn", "easy"] = "linear") -> Tensor:
    """cos(t + margin) of cos t, with a finite gradient where t is 0 or pi.

    Args:
        cosine: of any shape, in [-1, 1] but for rounding.
        margin: in radians.
        past: what stands for it where t + margin is above pi, where cos(t + margin) would rise again: "linear" cos t - margin sin margin,
            which keeps falling; "turn" cos(t + margin) all the same; "easy" adds the margin only up to t = pi / 2, and is cos t past it.
    """
    squared = 1 - cosine * cosine
    # a sine that is made of rounding errors counts as a constant 0: its slope would be infinite
    some = squared > torch.finfo(cosine.dtype).eps
    sine = torch.where(some, squared, 1).sqrt() * some
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    if past == "turn":
        return moved
    if past == "easy":
        return torch.where(cosine > 0, moved, cosine)
    return torch.where(cosine > math.cos(math.pi - margin), moved, cosine - margin * math.sin(margin))


def arc_face_logits(
    z: Tensor,
    weight: Tensor,
    y: Tensor | None = None,
    *,
    margin: float = 0.5,
    scale: float = 64.0,
    past: Literal["linear", "turn", "easy"] = "linear",
) -> Tensor:
    """scale * cos(t_ic + margin [c = y_i]), (B, C), of angles t between embeddings and rows; without classes there is no margin.

    Args:
        z: (B, D).
        weight: (C, D).
        y: int64 (B,), -1 = unknown, whose rows have no margin; None = all.
        margin: of the angle, in radians, from 0 to below pi.
        scale: what cosines are multiplied by, above 0.
        past: see `add_angle`.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without a row.
    """
    check_angle(margin, scale, past)
    z, weight = checked("arc_face", z, weight, y)
    with full_precision(z):
        values = cosines(z, weight)
        return scale * (values if y is None else with_own(values, y, add_angle(of_class(values, y), margin, past)))


def arc_face_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    margin: float = 0.5,
    scale: float = 64.0,
    past: Literal["linear", "turn", "easy"] = "linear",
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """Cross-entropy of `arc_face_logits`, over embeddings as `reduction` says, see `common.reduce`; a row of class -1 costs 0.

    Paper: Deng, Guo, Yang, Xue, Kotsia, Zafeiriou 2018, arXiv 1801.07698.
    """
    return cross_entropy(arc_face_logits(z, weight, y, margin=margin, scale=scale, past=past), y, reduction=reduction)


def check_angle(margin: float, scale: float, past: str) -> None:
    """Raises ConfigError for a setting out of range."""
    if not 0 <= margin < math.pi:
        raise ConfigError(f"margin: expected an angle in radians, from 0 to below pi, got {margin}: 0.5 are 28.6 degrees")
    check_above("scale", scale)
    check_choice("past", past, PAST)


@OBJECTIVES.register("arc_face", takes="proxies")
class ArcFace(ObjectiveModule):
    """Cross-entropy of scaled cosines with rows of classes, to whose angle with the own class a margin is added.

    Paper: Deng, Guo, Yang, Xue, Kotsia, Zafeiriou 2018, arXiv 1801.07698; `past=linear` and `past=easy` are of the released code.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        margin: of the angle, in radians, from 0 to below pi.
        scale: what cosines are multiplied by, above 0.
        past: past the angle pi - margin, "linear" takes cos - margin sin(margin), which keeps falling, "turn" cos(angle + margin) all the
            same, which rises again; "easy" adds the margin only to angles below pi / 2.
        proxy_lr: share of the learning rate that the rows take, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, "sum", "none" or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.arc_face(2, 2, scale=2.0)
    >>> loss.rows.imprint_(torch.eye(2), torch.tensor([0, 1]))  # rows are learned, and may be written
    >>> round(loss(z, y).item(), 2), loss.logits(z).argmax(1).tolist()
    (0.57, [0, 0, 1])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        margin: float = 0.5,
        scale: float = 64.0,
        past: Literal["linear", "turn", "easy"] = "linear",
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    ) -> None:
        super().__init__()
        check_angle(margin, scale, past)
        self.margin, self.scale, self.past = margin, scale, past
        self.lr_scale, self.reduction = share(proxy_lr), reduction
        self.rows = ProxyRows(dim, classes)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Scaled cosines (B, C) of embeddings (B, D); with classes (B,) as the loss sees them, with the margin."""
        return arc_face_logits(z, self.rows.weight, y, margin=self.margin, scale=self.scale, past=self.past)

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        return cross_entropy(self.logits(z, y), y, reduction=self.reduction)
