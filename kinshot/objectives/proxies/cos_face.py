"""CosFace: the own class must win by a margin of the cosine."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, check_at_least, full_precision
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.directions import cosines
from kinshot.objectives.proxies.rows import ProxyRows, checked, of_class, share, with_own


def cos_face_logits(z: Tensor, weight: Tensor, y: Tensor | None = None, *, margin: float = 0.35, scale: float = 64.0) -> Tensor:
    """scale * (cos(z_i, w_c) - margin [c = y_i]), (B, C); without classes there is no margin.

    Args:
        z: (B, D).
        weight: (C, D).
        y: int64 (B,), -1 = unknown, whose rows have no margin; None = all.
        margin: of the cosine, from 0.
        scale: what cosines are multiplied by, above 0.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without a row.
    """
    _check(margin, scale)
    z, weight = checked("cos_face", z, weight, y)
    with full_precision(z):
        values = cosines(z, weight)
        return scale * (values if y is None else with_own(values, y, of_class(values, y) - margin))


def cos_face_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    margin: float = 0.35,
    scale: float = 64.0,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """Cross-entropy of `cos_face_logits`, over embeddings as `reduction` says, see `common.reduce`; a row of class -1 costs 0.

    Paper: Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu 2018, arXiv 1801.09414.
    """
    return cross_entropy(cos_face_logits(z, weight, y, margin=margin, scale=scale), y, reduction=reduction)


def _check(margin: float, scale: float) -> None:
    check_at_least(0, margin=margin)
    check_above("scale", scale)


@OBJECTIVES.register("cos_face", takes="proxies")
class CosFace(ObjectiveModule):
    """Cross-entropy of scaled cosines with rows of classes, that of the own class less a margin.

    Paper: Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu 2018, arXiv 1801.09414.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        margin: of the cosine, from 0.
        scale: what cosines are multiplied by, above 0.
        proxy_lr: share of the learning rate that the rows take, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, "sum", "none" or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.cos_face(2, 2, scale=2.0)
    >>> loss.rows.imprint_(torch.eye(2), torch.tensor([0, 1]))  # rows are learned, and may be written
    >>> round(loss(z, y).item(), 3), loss.logits(z).argmax(1).tolist()
    (0.543, [0, 0, 1])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        margin: float = 0.35,
        scale: float = 64.0,
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    ) -> None:
        super().__init__()
        _check(margin, scale)
        self.margin, self.scale, self.lr_scale = margin, scale, share(proxy_lr)
        self.reduction = reduction
        self.rows = ProxyRows(dim, classes)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Scaled cosines (B, C) of embeddings (B, D); with classes (B,) as the loss sees them, less the margin."""
        return cos_face_logits(z, self.rows.weight, y, margin=self.margin, scale=self.scale)

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        return cross_entropy(self.logits(z, y), y, reduction=self.reduction)
