"""Proxy-Anchor: every proxy pulls its class's embeddings and pushes the others, the hardest most."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import ABSENT, check_above, check_at_least, check_choice, full_precision
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.directions import cosines
from kinshot.objectives.proxies.rows import ProxyRows, checked, of_class, share, with_own

ANCHORS = ("class", "sample")


def with_margins(similarity: Tensor, y: Tensor, margin: float, alpha: float) -> Tensor:
    """alpha * (s_ic + margin), and of the own class alpha * (s_iy - margin), (B, C); rows of unknown class have no own."""
    return alpha * with_own(similarity + margin, y, of_class(similarity, y) - margin)


def anchored(similarity: Tensor, y: Tensor, *, margin: float, alpha: float, anchor: Literal["class", "sample"]) -> Tensor:
    """The loss of Proxy-Anchor, of similarities to classes, a scalar.

    With pull_i = alpha * (margin - s_iy) and push_ic = alpha * (s_ic + margin):

    * "class": mean over the classes present of log(1 + sum over its rows of exp(pull_i)), and mean over all classes of
      log(1 + sum over the other classes' rows of exp(push_ic));
    * "sample": mean over rows of log(1 + exp(pull_i)) + log(1 + sum over the other classes of exp(push_ic)).

    Rows of unknown class are neither pulled nor pushed.

    Args:
        similarity: (B, C), cosines or what stands for them.
        y: int64 (B,), -1 = unknown.
        margin: from 0.
        alpha: sharpness, above 0.
        anchor: over what the sums within logarithms run.
    """
    known = y >= 0
    pull, pushed = _Sides.apply(similarity, y, margin, alpha, 1 if anchor == "sample" else 0)
    if anchor == "sample":
        losses = torch.logaddexp(pull, torch.zeros_like(pull)) + pushed
        return losses.sum() / known.sum().clamp(min=1)
    classes, own = similarity.shape[1], y.clamp(min=0)
    present = similarity.new_zeros(classes).index_add(0, own, known.to(similarity.dtype)) > 0
    pulled = _log_one_plus_sums(pull, own, classes).sum() / present.sum().clamp(min=1)
    return pulled + pushed.mean()


class _Sides(torch.autograd.Function):
    """`pull` (B,), and log(1 + sum of exp(push) along a dimension of (B, C)) without overflow; rows of unknown class have neither.

    One matrix is kept, the exponentials, of which the gradient is a multiple but at a row's own class, which is pulled.
    """

    @staticmethod
    def forward(ctx: Any, similarity: Tensor, y: Tensor, margin: float, alpha: float, dim: int) -> tuple[Tensor, Tensor]:
        known, own = y >= 0, y.clamp(min=0).unsqueeze(1)
        pull = torch.where(known, alpha * (margin - similarity.gather(1, own).squeeze(1)), ABSENT)
        start = torch.where(known, similarity.new_full((), alpha * margin), ABSENT)
        shares = start.unsqueeze(1).add(similarity, alpha=alpha).scatter_(1, own, ABSENT)
        top = shares.amax(dim).clamp_min_(0)
        total = shares.sub_(top.unsqueeze(dim)).exp_().sum(dim).add_((-top).exp())
        ctx.save_for_backward(known, own, shares, total)
        ctx.alpha, ctx.dim = alpha, dim
        return pull, top + total.log()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_pull: Tensor, to_pushed: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        known, own, shares, total = ctx.saved_tensors
        gradient = shares * (ctx.alpha * to_pushed / total).unsqueeze(ctx.dim)
        return gradient.scatter_(1, own, torch.where(known, -ctx.alpha * to_pull, 0).unsqueeze(1)), None, None, None, None


def _log_one_plus_sums(exponents: Tensor, groups: Tensor, count: int) -> Tensor:
    """log(1 + sum of exp(e) over a group), (count,), of exponents (B,) and the group of each, without overflow; 0 of no member."""
    top = exponents.new_zeros(count).scatter_reduce(0, groups, exponents.detach(), "amax")
    return top + ((-top).exp().index_add(0, groups, (exponents - top[groups]).exp())).log()


def proxy_anchor_loss(
    z: Tensor, y: Tensor, weight: Tensor, *, margin: float = 0.1, alpha: float = 32.0, anchor: Literal["class", "sample"] = "class"
) -> Tensor:
    """`anchored` of cosines with proxies, a scalar.

    Paper: Kim, Kim, Cho, Kwak 2020, arXiv 2003.13911.

    Args:
        z: (B, D).
        y: int64 (B,), -1 = unknown: costs 0.
        weight: (C, D).
        margin: of the cosine, from 0.
        alpha: sharpness, above 0.
        anchor: "class", the paper's, or "sample".

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without a row.
    """
    check_anchor(margin, alpha, anchor)
    z, weight = checked("proxy_anchor", z, weight, y)
    with full_precision(z):
        return anchored(cosines(z, weight), y, margin=margin, alpha=alpha, anchor=anchor)


def check_anchor(margin: float, alpha: float, anchor: str) -> None:
    """Raises ConfigError for a setting out of range."""
    check_at_least(0, margin=margin)
    check_above("alpha", alpha)
    check_choice("anchor", anchor, ANCHORS)


@OBJECTIVES.register("proxy_anchor", takes="proxies")
class ProxyAnchor(ObjectiveModule):
    """Proxies as anchors: each pulls its class's rows of the batch and pushes all others, weighted by how hard they are.

    Paper: Kim, Kim, Cho, Kwak 2020, arXiv 2003.13911, whose proxies take 100 times the rate of the network with AdamW (`proxy_lr=100`).
    `anchor=sample` is ours: the same two terms, where each row sums over the proxies.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        margin: of the cosine, from 0.
        alpha: sharpness, above 0.
        anchor: over what sums run: "class", over a proxy's rows, or "sample", over a row's proxies. The first is a mean over classes, the
            second over rows of known class.
        proxy_lr: share of the learning rate that the rows take, above 0.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.proxy_anchor(2, 2, alpha=2.0)
    >>> loss.rows.imprint_(torch.eye(2), torch.tensor([0, 1]))  # rows are learned, and may be written
    >>> round(loss(z, y).item(), 3), loss.logits(z).argmax(1).tolist()
    (1.609, [0, 0, 1])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        margin: float = 0.1,
        alpha: float = 32.0,
        anchor: Literal["class", "sample"] = "class",
        proxy_lr: float = 1.0,
    ) -> None:
        super().__init__()
        check_anchor(margin, alpha, anchor)
        self.margin, self.alpha, self.anchor = margin, alpha, anchor
        self.lr_scale = share(proxy_lr)
        self.rows = ProxyRows(dim, classes)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Cosines times alpha (B, C) of embeddings (B, D); with classes (B,) as the loss sees them, with the margins."""
        similarity = self.rows.cosines(z)
        return self.alpha * similarity if y is None else with_margins(similarity, y, self.margin, self.alpha)

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        return proxy_anchor_loss(z, y, self.rows.weight, margin=self.margin, alpha=self.alpha, anchor=self.anchor)
