"""Plain cross-entropy of a linear classifier: the baseline of metric learning that has no pair in it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_at_least, check_choice, full_precision
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.rows import ProxyRows, checked, in_one_type, share


def linear_softmax_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    smoothing: float = 0.0,
    spread: Literal["others", "all"] = "others",
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """Cross-entropy of logits <z_i, w_c> + b_c with targets that may be smoothed.

    Paper: Boudiaf et al. 2020, arXiv 2003.08983.

    Args:
        z: (B, D).
        y: int64 (B,), -1 = unknown: costs 0.
        weight: (C, D).
        bias: (C,).
        smoothing: what a class gives away, from 0 to below 1.
        spread: to the other classes, or to all, see `kinshot.objectives.cross_entropy`.
        reduction: see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without a row.
    """
    z, weight = checked("linear_softmax", z, weight, y)
    with full_precision(z):
        return cross_entropy(F.linear(z, weight, bias.to(z.dtype)), y, smoothing=smoothing, spread=spread, reduction=reduction)


@OBJECTIVES.register("linear_softmax", takes="proxies")
class LinearSoftmax(ObjectiveModule):
    """Cross-entropy of a linear classifier with bias over raw embeddings; the target may be smoothed, in either convention.

    Paper: Boudiaf et al. 2020, arXiv 2003.08983, who start from zeros (`initial=0`) and smooth with `spread=others`.
    See `pairwise_surrogate` for what it says of pairs.

    Args:
        dim: of embeddings, D.
        classes: how many there are; smoothing wants 2.
        context: what is known of the run; plays no part, and may be left out.
        smoothing: what a class gives away, from 0 to below 1.
        spread: to the other classes, or to all, see `cross_entropy`.
        initial: length of the rows at first, from 0.
        proxy_lr: share of the learning rate that the rows take, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, "sum", "none" or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.linear_softmax(2, 2)
    >>> loss.rows.imprint_(2 * torch.eye(2), torch.tensor([0, 1]))  # rows are learned, and may be written
    >>> round(loss(z, y).item(), 3), loss.logits(z).argmax(1).tolist()
    (0.347, [0, 0, 1])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        smoothing: float = 0.0,
        spread: Literal["others", "all"] = "others",
        initial: float = 1.0,
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    ) -> None:
        super().__init__()
        check_choice("spread", spread, ("others", "all"))
        check_at_least(0, smoothing=smoothing, initial=initial)
        if smoothing >= 1 or (smoothing and classes < 2):
            raise ConfigError(f"smoothing: expected a number below 1, and 2 classes or more to share it, got {smoothing} of {classes}")
        self.smoothing, self.spread, self.reduction = smoothing, spread, reduction
        self.lr_scale = share(proxy_lr)
        self.rows = ProxyRows(dim, classes)
        self.bias = nn.Parameter(torch.zeros(classes))
        with torch.no_grad():
            self.rows.weight.mul_(initial)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Products with the rows, and bias (B, C), of embeddings (B, D); there is no margin that classes `y` (B,) could ask for."""
        with full_precision(z):
            return F.linear(*in_one_type(z, self.rows.weight, self.bias))

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        settings = {"smoothing": self.smoothing, "spread": self.spread, "reduction": self.reduction}
        return linear_softmax_loss(z, y, self.rows.weight, self.bias, **settings)  # type: ignore[arg-type]
