"""Normalised softmax: a classifier by scaled cosines, without any margin."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, full_precision
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.directions import cosines
from kinshot.objectives.proxies.rows import ProxyRows, checked, share


def normalized_softmax_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    scale: float = 20.0,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """Cross-entropy of logits scale * cos(z_i, w_c).

    Paper: Wang, Xiang, Cheng, Yuille 2017, arXiv 1704.06369 (NormFace); Zhai, Wu 2018, arXiv 1811.12649.

    Args:
        z: (B, D).
        y: int64 (B,), -1 = unknown: costs 0.
        weight: (C, D).
        scale: what cosines are multiplied by, above 0; 1 / temperature.
        reduction: see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without a row.
    """
    check_above("scale", scale)
    z, weight = checked("normalized_softmax", z, weight, y)
    with full_precision(z):
        return cross_entropy(scale * cosines(z, weight), y, reduction=reduction)


@OBJECTIVES.register("normalized_softmax", takes="proxies")
class NormalizedSoftmax(ObjectiveModule):
    """Cross-entropy of a softmax over scaled cosines with rows of classes: a classifier that only sees directions.

    Paper: Wang, Xiang, Cheng, Yuille 2017, arXiv 1704.06369 (NormFace); as metric learning: Zhai, Wu 2018, arXiv 1811.12649.
    Departures: the scale is fixed and not learned, and embeddings pass no layer normalisation here: that is a head's business.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        scale: what cosines are multiplied by, above 0; 1 / temperature.
        proxy_lr: share of the learning rate that the rows take, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, "sum", "none" or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.normalized_softmax(2, 2, scale=2.0)
    >>> loss.rows.imprint_(torch.eye(2), torch.tensor([0, 1]))  # rows are learned, and may be written
    >>> round(loss(z, y).item(), 3), loss.logits(z).argmax(1).tolist()
    (0.347, [0, 0, 1])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        scale: float = 20.0,
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    ) -> None:
        super().__init__()
        check_above("scale", scale)
        self.scale, self.lr_scale = scale, share(proxy_lr)
        self.reduction = reduction
        self.rows = ProxyRows(dim, classes)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Scaled cosines (B, C) of embeddings (B, D); there is no margin that classes `y` (B,) could ask for."""
        return self.scale * self.rows.cosines(z)

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        return normalized_softmax_loss(z, y, self.rows.weight, scale=self.scale, reduction=self.reduction)
