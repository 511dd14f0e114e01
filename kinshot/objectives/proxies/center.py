"""Center loss: embeddings stay near the center of their class, which follows them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_choice, full_precision, reduce
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.rows import ProxyRows, checked, share

UPDATES = ("gradient", "paper")


def center_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """1/2 |z_i - w_{y_i}|^2 over embeddings.

    Paper: Wen, Zhang, Li, Qiao 2016, ECCV, A discriminative feature learning approach for deep face recognition.

    Args:
        z: (B, D), as they are.
        y: int64 (B,), -1 = unknown: costs 0.
        weight: centers (C, D).
        reduction: see `common.reduce`; the paper's is "sum".

    Raises:
        ConfigError: shapes that do not fit together, or a class without a center.
    """
    z, weight = checked("center", z, weight, y)
    with full_precision(z):
        return reduce((z - weight[y.clamp(min=0)]).square().sum(dim=1) / 2, y >= 0, reduction)


@torch.no_grad()
def center_steps(z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """How far each center is from its class's rows of a batch: sum_i [y_i = c] (w_c - z_i) / (1 + sum_i [y_i = c]), (C, D).

    Paper: Wen, Zhang, Li, Qiao 2016, ECCV; centers move by minus alpha times this. A class without rows has 0.

    Args:
        z: (B, D).
        y: int64 (B,), -1 = unknown.
        weight: centers (C, D).

    Raises:
        ConfigError: shapes that do not fit together, or a class without a center.
    """
    z, weight = checked("center", z, weight, y)
    own, known = y.clamp(min=0), (y >= 0).to(z.dtype)
    counts = z.new_zeros(len(weight)).index_add_(0, own, known)
    away = torch.where(y.unsqueeze(1) < 0, 0, weight[own] - z)
    return torch.zeros_like(weight).index_add_(0, own, away) / (1 + counts).unsqueeze(1)


@OBJECTIVES.register("center", takes="proxies")
class Center(ObjectiveModule):
    """Half the squared distance of raw embeddings to their class's center; it stands beside a loss that keeps classes apart.

    Paper: Wen, Zhang, Li, Qiao 2016, ECCV, A discriminative feature learning approach for deep face recognition.

    `update=paper` moves centers by the paper's rule after every step, whatever the loss's weight; `update=gradient` learns them as
    parameters, whose gradient the loss's weight scales. The paper sums over a batch, which is `reduction=sum`.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        update: how centers move: "paper", w_c <- w_c - alpha * sum_i (w_c - z_i) / (1 + n_c), or by "gradient".
        alpha: of the paper's rule, from 0 to 1.
        proxy_lr: share of the learning rate that centers take which are parameters, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, "sum", "none" or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.center(2, 2)
    >>> loss.rows.imprint_(torch.eye(2), torch.tensor([0, 1]))
    >>> round(loss(z, y).item(), 3), loss.after_step(), [round(x, 2) for x in loss.rows.weight[1].tolist()]
    (0.133, None, [0.2, 0.9])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        update: Literal["paper", "gradient"] = "paper",
        alpha: float = 0.5,
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    ) -> None:
        super().__init__()
        check_choice("update", update, UPDATES)
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha: expected a number from 0 to 1, got {alpha}")
        self.update, self.alpha, self.lr_scale = update, alpha, share(proxy_lr)
        self.reduction = reduction
        self.rows = ProxyRows(dim, classes, learned=update == "gradient", points=True)
        self._away: Tensor | None = None

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Halves of negative squared distances (B, C) of embeddings (B, D); there is no margin that classes `y` (B,) could ask for."""
        z, weight = checked("center", z, self.rows.weight)
        with full_precision(z):
            return z @ weight.T - z.square().sum(dim=1, keepdim=True) / 2 - weight.square().sum(dim=1) / 2

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        if self.update == "paper":
            self._away = center_steps(z, y, self.rows.weight)
        return center_loss(z, y, self.rows.weight, reduction=self.reduction)

    def after_step(self) -> None:
        """Move the centers by the paper's rule, if that is how they move."""
        if self._away is not None:
            away, self._away = self._away, None
            self.rows.weight.sub_(self.alpha * away.to(self.rows.weight))
