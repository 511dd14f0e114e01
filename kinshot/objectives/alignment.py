"""Alignment as a loss: kin lie close on the unit sphere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from kinshot.core.sphere import mean_power
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    Sets,
    by_chunks,
    check_above,
    dense_weights,
    distances,
    full_precision,
    prepare,
    reduce_units,
    side_by_side,
)


@OBJECTIVES.register("alignment", takes="relation")
def alignment(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    alpha: float = 2.0,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    chunk: int | None = None,
) -> Tensor:
    """Mean of ||u(z_i) - u(r_j)||^alpha over all pairs of kin; 0 is perfect. Without kin it is 0 and has gradient 0.

    Paper: Wang, Isola 2020, arXiv 2005.10242.
    Departure: there kin are the two views of a sample; here any relation. Every pair counts alike, times its positive weight, so a
        class counts by the number of its pairs. Nothing is told apart: `uniformity` beside it does that.

    Args:
        z: anchors (A, D), scaled to unit length here.
        relation: of anchors and references, or one for each set of references; its positive weights weigh the mean.
        refs: (R, D), (A, R, D), or one such for each relation, scaled to unit length here; None = `z`.
        alpha: exponent, above 0.
        reduction: "mean" over all pairs of kin, "valid" over those that cost something, "sum", "none": each anchor's mean (A,), or
            "each", see `common.reduce`.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.alignment(z, kinshot.kin.labels(y)).item(), 3)
    0.4
    """
    check_above("alpha", alpha)

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor, Tensor]:
        d, weights, _ = side_by_side(rows, sets, distances)
        zero = d == 0
        cost = torch.where(zero, 1, d).pow(alpha).masked_fill(zero, 0) * weights
        return cost.sum(dim=1), weights.sum(dim=1), (weights * (cost > 0)).sum(dim=1)

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize=True)
        if refs is None and len(sets) == 1 and chunk is None and reduction == "mean":
            return _of_pairs(anchors, sets[0][0], alpha)
        if refs is None:  # a row is no kin of itself
            own = torch.eye(len(z), dtype=torch.bool, device=z.device)
            sets = [(one.without(own), rows) for one, rows in sets]
        total, mass, active = by_chunks(some, anchors, sets, chunk)
        return reduce_units(total, mass, active, reduction)


def _of_pairs(rows: Tensor, relation: Relation, alpha: float) -> Tensor:
    """The mean, each pair's distance once: many times faster than the whole matrix."""
    weights = dense_weights(relation.positive, rows.new_zeros(relation.shape)).to(rows.dtype)
    i, j = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    return mean_power(torch.pdist(rows), alpha, weights[i, j] + weights[j, i])
