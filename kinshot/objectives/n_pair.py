"""N-pair loss: every kin of an anchor against all that is told apart from it, in one softmax."""

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
    check_at_least,
    full_precision,
    log_sum,
    prepare,
    products,
    reduce,
    side_by_side,
)


@OBJECTIVES.register("n_pair", takes="relation")
def n_pair(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    norm_penalty: float = 0.001,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = False,
    chunk: int | None = None,
) -> Tensor:
    """Mean over anchors and their kin of log(1 + sum_N exp(s_n - s_p)) + c (|a|^2 + |p|^2) / 2, s the dot product of rows as they are.

    Paper: Sohn 2016, Improved deep metric learning with multi-class N-pair loss objective, NIPS (its multi-class form).

    The paper has one kin for each anchor, and the kin of the other anchors as its others: rows of first samples with those of second
    ones as `refs` and the relation `kin.constructors.labels` of both. Within a batch all kin of an anchor are averaged, each against all
    its others. Weights of the relation weigh that average and multiply the exponentials.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        norm_penalty: c, what half of the squared norms of a pair costs, at least 0; the default is that of TensorFlow's `npairs_loss`
            (its 0.002 stands before a quarter). Of unit rows it is a constant.
        reduction: "mean" over all anchors, "valid" over those that have kin, "sum", "none": (A,), or "each", see `common.reduce`.
        normalize: whether rows are scaled to length 1, as libraries have it, which leaves the softmax nearly flat; "anchors" takes the
            references as they are.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.n_pair(z, kinshot.kin.labels(y)).item(), 3)
    0.675
    """
    check_at_least(0, norm_penalty=norm_penalty)

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor]:
        similarity, positive, negative = side_by_side(rows, sets, products)
        against = log_sum(similarity, negative).unsqueeze(1)
        cost = torch.logaddexp(against, similarity) - similarity
        if norm_penalty > 0:
            lengths = torch.cat([_squared_norms(rows, r) for _, r in sets], dim=1)
            cost = cost + norm_penalty * (rows.square().sum(dim=1, keepdim=True) + lengths) / 2
        mass = positive.sum(dim=1)
        return torch.where(positive > 0, cost * positive, 0).sum(dim=1) / torch.where(mass > 0, mass, 1), mass > 0

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        losses, valid = by_chunks(some, anchors, sets, chunk)
        return reduce(losses, valid, reduction)


def _squared_norms(z: Tensor, refs: Tensor) -> Tensor:
    """Of the references of each anchor: (A, R)."""
    return refs.square().sum(dim=-1).expand(len(z), -1)
