"""Proxy-NCA: an embedding is nearer to its class's proxy than to those of the others."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import ABSENT, check_above, check_choice, full_precision, reduce
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.directions import cosines
from kinshot.objectives.proxies.rows import ProxyRows, checked, of_class, share, with_own

FORMS = ("paper", "softmax")


def proxy_nca_logits(z: Tensor, weight: Tensor, *, scale: float = 9.0) -> Tensor:
    """-scale * |u(z_i) - u(w_c)|^2, (B, C), of directions u.

    Args:
        z: (B, D).
        weight: (C, D).
        scale: what squared distances are multiplied by, above 0.

    Raises:
        ConfigError: a scale out of range, or shapes that do not fit together.
    """
    check_above("scale", scale)
    z, weight = checked("proxy_nca", z, weight)
    with full_precision(z):
        return scale * (2 * cosines(z, weight) - 2)


def proxy_nca_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    scale: float = 9.0,
    form: Literal["paper", "softmax"] = "paper",
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """-log( exp(l_iy) / sum_c exp(l_ic) ) of `proxy_nca_logits` l, where c runs over other classes ("paper") or over all ("softmax").

    Paper: Movshovitz-Attias, Toshev, Leung, Ioffe, Singh 2017, arXiv 1703.07464; softmax: Teh, DeVries, Taylor 2020, arXiv 2004.01113.

    Args:
        z: (B, D).
        y: int64 (B,), -1 = unknown: costs 0.
        weight: (C, D).
        scale: what squared distances are multiplied by, above 0.
        form: "paper" can be negative, and is 0 where there is one class only.
        reduction: see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without a row.
    """
    check_choice("form", form, FORMS)
    checked("proxy_nca", z, weight, y)
    with full_precision(z):
        logits = proxy_nca_logits(z, weight, scale=scale)
        own = of_class(logits, y)
        among = with_own(logits, y, torch.full_like(own, ABSENT)) if form == "paper" else logits
        alone = form == "paper" and len(weight) == 1
        return reduce(among.logsumexp(dim=1) - own, (y >= 0) & (not alone), reduction)


@OBJECTIVES.register("proxy_nca", takes="proxies")
class ProxyNCA(ObjectiveModule):
    """An embedding's squared distance to its class's proxy against those to the other proxies; "softmax" counts its own among these.

    Paper: Movshovitz-Attias, Toshev, Leung, Ioffe, Singh 2017, arXiv 1703.07464; softmax: Teh, DeVries, Taylor 2020, arXiv 2004.01113
    (ProxyNCA++), which also scales distances, as is done here in both forms.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        scale: what squared distances of unit vectors are multiplied by, above 0; the paper's is 1.
        form: what an embedding is compared with: "paper", the other classes' proxies, or "softmax", all of them.
        proxy_lr: share of the learning rate that the rows take, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, "sum", "none" or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.proxy_nca(2, 2, scale=1.0)
    >>> loss.rows.imprint_(torch.eye(2), torch.tensor([0, 1]))  # rows are learned, and may be written
    >>> round(loss(z, y).item(), 3), loss.logits(z).argmax(1).tolist()
    (-0.533, [0, 0, 1])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        scale: float = 9.0,
        form: Literal["paper", "softmax"] = "paper",
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    ) -> None:
        super().__init__()
        check_above("scale", scale)
        check_choice("form", form, FORMS)
        self.scale, self.form, self.lr_scale = scale, form, share(proxy_lr)
        self.reduction = reduction
        self.rows = ProxyRows(dim, classes)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Scaled negative distances (B, C) of embeddings (B, D); there is no margin that classes `y` (B,) could ask for."""
        return proxy_nca_logits(z, self.rows.weight, scale=self.scale)

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        return proxy_nca_loss(z, y, self.rows.weight, scale=self.scale, form=self.form, reduction=self.reduction)
