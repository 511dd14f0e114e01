"""Lifted structure: each pair of kin against all that either of the two is told apart from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    check_at_least,
    check_choice,
    distances,
    full_precision,
    log_sum,
    prepare,
    reduce,
    reduce_units,
    side_by_side,
)


@OBJECTIVES.register("lifted", takes="relation")
def lifted(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    form: Literal["lifted", "generalized"] = "lifted",
    margin: float = 1.0,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = False,
) -> Tensor:
    """Mean over kin pairs of relu(d_ij + log(sum_N(i) exp(m - d_ik) + sum_N(j) exp(m - d_jl)))^2 / 2, d the distance.

    Paper: Oh Song, Xiang, Jegelka, Savarese 2015, arXiv 1511.06452; `generalized`: Hermans, Beyer, Leibe 2017, arXiv 1703.07737.

    With `form=generalized` the unit is the anchor: relu(log sum_P exp(d_ap) + log sum_N exp(m - d_an)), all kin at once. Weights of the
    relation weigh the mean over pairs, or multiply the exponentials. The others of a reference are the anchors that are told apart
    from it.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references.
        refs: (R, D), or one such for each relation; None = `z`. With `form=generalized` also (A, R, D).
        form: "lifted", over pairs, as in the first paper and its code; "generalized", over anchors, as in the second.
        margin: m, at least 0, in units of the distance.
        reduction: "mean" over all kin pairs (of `generalized`, over all anchors), "valid" over those that cost something (over anchors
            that have kin and others), "sum", "none": each anchor's mean (A,), or "each", see `common.reduce`.
        normalize: scales rows to length 1, as neither paper does.

    Raises:
        ConfigError: a setting out of range, references of each anchor's own with `form=lifted`, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.lifted(z, kinshot.kin.labels(y)).item(), 3)
    1.433
    """
    check_choice("form", form, ("lifted", "generalized"))
    check_at_least(0, margin=margin)
    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        if form == "lifted" and any(r.dim() == 3 for _, r in sets):
            raise ConfigError("refs: lifted compares a reference with all anchors, expected (R, D), got (A, R, D): take form=generalized")
        d, positive, negative = side_by_side(anchors, sets, distances)
        if form == "generalized":
            far, near = log_sum(d, positive), log_sum(margin - d, negative)
            return reduce(F.relu(far + near), (positive > 0).any(dim=1) & (negative > 0).any(dim=1), reduction)
        of_anchors, of_refs = log_sum(margin - d, negative), log_sum((margin - d).T, negative.T)
        cost = F.relu(torch.logaddexp(of_anchors.unsqueeze(1), of_refs.unsqueeze(0)) + d).square() / 2
        return reduce_units((cost * positive).sum(dim=1), positive.sum(dim=1), (positive * (cost > 0)).sum(dim=1), reduction)
