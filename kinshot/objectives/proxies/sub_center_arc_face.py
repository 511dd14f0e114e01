"""Sub-center ArcFace: a class has several rows, and wrong labels gather at those that few samples have."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, full_precision, unit
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.arc_face import add_angle, check_angle
from kinshot.objectives.proxies.directions import nearest_cosines
from kinshot.objectives.proxies.rows import ProxyRows, checked, of_class, share, with_own


def sub_center_arc_face_logits(
    z: Tensor,
    weight: Tensor,
    y: Tensor | None = None,
    *,
    centers: int = 3,
    margin: float = 0.5,
    scale: float = 64.0,
    past: Literal["linear", "turn", "easy"] = "linear",
) -> Tensor:
    """`arc_face_logits` (B, C) of the nearest of each class's rows; without classes there is no margin.

    Args:
        z: (B, D).
        weight: (C * centers, D), class after class.
        y: int64 (B,), -1 = unknown, whose rows have no margin; None = all.
        centers: rows of a class.
        margin: of the angle, in radians, from 0 to below pi.
        scale: what cosines are multiplied by, above 0.
        past: see `add_angle`.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without rows.
    """
    check_above("centers", centers)
    check_angle(margin, scale, past)
    z, weight = checked("sub_center_arc_face", z, weight, y, centers)
    with full_precision(z):
        values = nearest_cosines(z, weight, centers)
        return scale * (values if y is None else with_own(values, y, add_angle(of_class(values, y), margin, past)))


def sub_center_arc_face_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    centers: int = 3,
    margin: float = 0.5,
    scale: float = 64.0,
    past: Literal["linear", "turn", "easy"] = "linear",
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """Cross-entropy of `sub_center_arc_face_logits`, over embeddings as `reduction` says, see `common.reduce`; a row of class -1 costs 0.

    Paper: Deng, Guo, Liu, Gong, Zafeiriou 2020, ECCV, Sub-center ArcFace.
    """
    logits = sub_center_arc_face_logits(z, weight, y, centers=centers, margin=margin, scale=scale, past=past)
    return cross_entropy(logits, y, reduction=reduction)


@torch.no_grad()
def dominant_centers(z: Tensor, y: Tensor, weight: Tensor, centers: int = 3) -> Tensor:
    """Which row of each class is nearest to most of its samples, int64 (C,), 0..centers-1: the first of equals; 0 of a class without any.

    Args:
        z: all samples, (N, D).
        y: the classes that their labels say, int64 (N,), -1 = unknown.
        weight: (C * centers, D), class after class.
        centers: rows of a class.

    Raises:
        ConfigError: shapes that do not fit together, or a class without rows.
    """
    return _counts(_own_cosines(z, y, weight, centers), y, len(weight) // centers).argmax(dim=1)


@torch.no_grad()
def dominant_angles(z: Tensor, y: Tensor, weight: Tensor, centers: int = 3) -> Tensor:
    """How far each sample is from the dominant center of the class that its label says: the larger, the likelier is the label wrong.

    Paper: Deng, Guo, Liu, Gong, Zafeiriou 2020, ECCV, Sub-center ArcFace, who drop what is beyond a fixed angle.

    Args:
        z: all samples, (N, D).
        y: the classes that their labels say, int64 (N,), -1 = unknown.
        weight: (C * centers, D), class after class.
        centers: rows of a class.

    Returns:
        Angles in radians, 0 to pi, (N,); NaN for a sample of unknown class.

    Raises:
        ConfigError: shapes that do not fit together, or a class without rows.
    """
    own = _own_cosines(z, y, weight, centers)
    dominant = _counts(own, y, len(weight) // centers).argmax(dim=1)
    angles = own.gather(1, dominant[y.clamp(min=0)].unsqueeze(1)).squeeze(1).clamp(-1, 1).acos()
    return angles.masked_fill(y < 0, float("nan"))


def _own_cosines(z: Tensor, y: Tensor, weight: Tensor, centers: int) -> Tensor:
    """Cosines (N, centers) of samples with the rows of their own class, without those with all the others."""
    z, weight = checked("sub_center_arc_face", z, weight, y, centers)
    with full_precision(z):
        samples, rows = unit(z), unit(weight).unflatten(0, (-1, centers))
        # one center of a class after the other: of all at once the rows would be `centers` times as many numbers as the samples
        return torch.stack([(samples * rows[y.clamp(min=0), k]).sum(dim=1) for k in range(centers)], dim=1)


def _counts(own: Tensor, y: Tensor, classes: int) -> Tensor:
    """Samples that each row is the nearest to of its class, int64 (C, centers)."""
    centers = own.shape[1]
    nearest = y * centers + own.argmax(dim=1)
    return torch.bincount(nearest[y >= 0], minlength=classes * centers).view(classes, centers)


@OBJECTIVES.register("sub_center_arc_face", takes="proxies")
class SubCenterArcFace(ObjectiveModule):
    """ArcFace against the nearest of several rows of each class; `angles` then finds labels that are likely wrong.

    Paper: Deng, Guo, Liu, Gong, Zafeiriou 2020, ECCV, Sub-center ArcFace; in the journal version arXiv 1801.07698.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        centers: rows of a class, at least 1.
        margin: of the angle, in radians, from 0 to below pi.
        scale: what cosines are multiplied by, above 0.
        past: past the angle pi - margin, "linear" takes cos - margin sin(margin), which keeps falling, "turn" cos(angle + margin) all the
            same, which rises again; "easy" adds the margin only to angles below pi / 2.
        proxy_lr: share of the learning rate that the rows take, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, "sum", "none" or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, -1.0]]), torch.tensor([0, 0, 0, 1])  # the third's label is wrong
    >>> loss = kinshot.objectives.sub_center_arc_face(2, 2, centers=2, scale=2.0)
    >>> loss.rows.imprint_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), torch.tensor([0, 0, 1]))
    >>> [round(angle, 2) for angle in loss.angles(z, y)[:3].tolist()]
    [0.0, 0.64, 1.57]
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        centers: int = 3,
        margin: float = 0.5,
        scale: float = 64.0,
        past: Literal["linear", "turn", "easy"] = "linear",
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    ) -> None:
        super().__init__()
        check_above("centers", centers)
        check_angle(margin, scale, past)
        self.centers, self.margin, self.scale, self.past = centers, margin, scale, past
        self.lr_scale, self.reduction = share(proxy_lr), reduction
        self.rows = ProxyRows(dim, classes, centers)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Scaled cosines (B, C) of embeddings (B, D) with each class's nearest row; with classes (B,) as the loss sees them."""
        settings = {"margin": self.margin, "scale": self.scale, "past": self.past}
        return sub_center_arc_face_logits(z, self.rows.weight, y, centers=self.centers, **settings)  # type: ignore[arg-type]

    def angles(self, z: Tensor, y: Tensor) -> Tensor:
        """`dominant_angles` (N,) of all samples (N, D) with the classes (N,) that their labels say."""
        return dominant_angles(z, y, self.rows.weight, self.centers)

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        return cross_entropy(self.logits(z, y), y, reduction=self.reduction)
