"""SoftTriple: a softmax over classes of several centers, which draw together where a class needs fewer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import at_least_float32, check_above, check_at_least, check_choice, full_precision
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.directions import cosines, inverse_lengths
from kinshot.objectives.proxies.rows import ProxyRows, checked, of_class, share, soft_maximum, with_own


def soft_triple_logits(
    z: Tensor,
    weight: Tensor,
    y: Tensor | None = None,
    *,
    centers: int = 10,
    scale: float = 20.0,
    gamma: float = 0.1,
    margin: float = 0.01,
) -> Tensor:
    """scale * (S_ic - margin [c = y_i]), (B, C), of S_ic = sum_k softmax_k(cos(z_i, w_ck) / gamma) cos(z_i, w_ck).

    Args:
        z: (B, D).
        weight: (C * centers, D), class after class.
        y: int64 (B,), -1 = unknown, whose rows have no margin; None = all.
        centers: of a class.
        scale: what similarities are multiplied by, above 0.
        gamma: how soft the maximum over centers is, above 0.
        margin: of the similarity, from 0.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without rows.
    """
    _check(centers, scale, gamma, margin)
    z, weight = checked("soft_triple", z, weight, y, centers)
    with full_precision(z):
        values = soft_maximum(cosines(z, weight), centers, gamma)
        return scale * (values if y is None else with_own(values, y, of_class(values, y) - margin))


def center_spread(weight: Tensor, centers: int) -> Tensor:
    """Mean over classes and pairs of centers of their distance, halved: sum_c sum_{s<t} |u(w_cs) - u(w_ct)| / (C K (K - 1)); 0 of one.

    Its gradient at equal centers is 0, so that those which met stay together.

    Args:
        weight: (C * centers, D), class after class.
        centers: K.
    """
    with full_precision(weight):
        rows = at_least_float32(weight).unflatten(0, (-1, centers))
        inverse = inverse_lengths(rows)
        squared = 2 - 2 * (rows @ rows.mT) * inverse.unsqueeze(2) * inverse.unsqueeze(1)
        # a center is at no distance from itself, nor from one that only rounding tells apart
        apart = (squared > torch.finfo(squared.dtype).eps * 8) & ~torch.eye(centers, dtype=torch.bool, device=weight.device)
        distances = torch.where(apart, squared, 1).sqrt() * apart
        return distances.sum() / max(1, 2 * len(rows) * centers * (centers - 1))


def soft_triple_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    centers: int = 10,
    scale: float = 20.0,
    gamma: float = 0.1,
    margin: float = 0.01,
    tau: float = 0.2,
    reduction: Literal["mean", "valid", "sum"] = "mean",
) -> Tensor:
    """Cross-entropy of `soft_triple_logits`, over embeddings as `reduction` says, and tau times `center_spread`, a scalar.

    Paper: Qian, Shang, Sun, Hu, Li, Jin 2019, arXiv 1909.05235.

    A row of class -1 costs 0, and a batch of none but such costs nothing, its centers' spread included.
    """
    check_choice("reduction", reduction, ("mean", "valid", "sum"))
    check_at_least(0, tau=tau)
    logits = soft_triple_logits(z, weight, y, centers=centers, scale=scale, gamma=gamma, margin=margin)
    loss = cross_entropy(logits, y, reduction=reduction)
    return loss + tau * center_spread(weight, centers) * (y >= 0).any() if tau else loss


def _check(centers: int, scale: float, gamma: float, margin: float) -> None:
    check_above("centers", centers)
    check_above("scale", scale)
    check_above("gamma", gamma)
    check_at_least(0, margin=margin)


@OBJECTIVES.register("soft_triple", takes="proxies")
class SoftTriple(ObjectiveModule):
    """Cross-entropy over classes of several centers each, a soft maximum of which counts; centers that are not needed are drawn together.

    Paper: Qian, Shang, Sun, Hu, Li, Jin 2019, arXiv 1909.05235.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        centers: of a class, at least 1.
        scale: what similarities are multiplied by, above 0.
        gamma: how soft the maximum over a class's centers is, above 0.
        margin: by which the own class must win, from 0.
        tau: weight of the spread of each class's centers, from 0; 0 = without.
        proxy_lr: share of the learning rate that the rows take, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, or "sum".

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.soft_triple(2, 2, centers=2, scale=2.0)
    >>> loss.rows.imprint_(torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1, 1]))
    >>> round(loss(z, y).item(), 3), loss.logits(z).argmax(1).tolist()
    (0.493, [0, 0, 1])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        centers: int = 10,
        scale: float = 20.0,
        gamma: float = 0.1,
        margin: float = 0.01,
        tau: float = 0.2,
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum"] = "mean",
    ) -> None:
        super().__init__()
        _check(centers, scale, gamma, margin)
        check_at_least(0, tau=tau)
        self.centers, self.scale, self.gamma, self.margin, self.tau = centers, scale, gamma, margin, tau
        self.lr_scale, self.reduction = share(proxy_lr), reduction
        self.rows = ProxyRows(dim, classes, centers)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Scaled similarities (B, C) of embeddings (B, D); with classes (B,) as the loss sees them, less the margin."""
        settings = {"scale": self.scale, "gamma": self.gamma, "margin": self.margin}
        return soft_triple_logits(z, self.rows.weight, y, centers=self.centers, **settings)  # type: ignore[arg-type]

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        return soft_triple_loss(
            z,
            y,
            self.rows.weight,
            centers=self.centers,
            scale=self.scale,
            gamma=self.gamma,
            margin=self.margin,
            tau=self.tau,
            reduction=self.reduction,
        )
