"""Weighted regularised triplet: an anchor's kin and others averaged by how hard they are, without a margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    Sets,
    by_chunks,
    distances,
    full_precision,
    log_terms,
    prepare,
    reduce,
    side_by_side,
)


@OBJECTIVES.register("wrt", takes="relation")
def wrt(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    include_self: bool = False,
    detach_weights: bool = False,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = False,
    chunk: int | None = None,
) -> Tensor:
    """Mean over anchors of log(1 + exp(sum_P w d - sum_N w d)), w the softmax of distances of kin, and of negated ones of others.

    Paper: Ye, Shen, Lin, Xiang, Shao, Hoi 2020, arXiv 2001.04193 (AGW).

    The released code counts the anchor among its own kin (`include_self=True`), which weakens the weights of near kin, and lets the
    gradient flow through the weights, as is the default here. Weights of the relation multiply the exponentials of the softmax.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        include_self: whether each anchor has itself, at distance 0, beside its kin.
        detach_weights: whether the softmax weights are constants for the gradient.
        reduction: "mean" over all anchors, "valid" over those that have kin and others, "sum", "none": (A,), or "each", see
            `common.reduce`.
        normalize: scales rows to length 1, as the paper does not.
        chunk: anchors at a time.

    Raises:
        ConfigError: shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.wrt(z, kinshot.kin.labels(y)).item(), 3)
    0.411
    """

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor]:
        d, positive, negative = side_by_side(rows, sets, distances)
        gap = _average(d, positive, 1, include_self, detach_weights) - _average(d, negative, -1, False, detach_weights)
        return torch.logaddexp(gap, torch.zeros_like(gap)), (positive > 0).any(dim=1) & (negative > 0).any(dim=1)

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        losses, valid = by_chunks(some, anchors, sets, chunk)
        return reduce(losses, valid, reduction)


def _average(d: Tensor, weights: Tensor, sign: int, include_self: bool, detach: bool) -> Tensor:
    """Mean distance (A,), weighted by the softmax of `sign` times the distances, perhaps with one more of 0."""
    logits = log_terms(sign * d, weights)
    if include_self:
        logits = torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)
    share = logits.softmax(dim=1)[:, : d.shape[1]]
    return ((share.detach() if detach else share) * d).sum(dim=1)
