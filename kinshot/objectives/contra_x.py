"""Contra-X: the softmax of a row of similarities follows the softmax of a row of the relation."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    ABSENT,
    Sets,
    by_chunks,
    check_above,
    full_precision,
    prepare,
    products,
    reduce,
    side_by_side,
)


@OBJECTIVES.register("contra_x", takes="relation")
def contra_x(
    z: Tensor,
    relation: Relation,
    refs: Tensor | None = None,
    *,
    temperature: float = 0.1,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = True,
    chunk: int | None = None,
) -> Tensor:
    """Mean over anchors of KL(softmax(Y / t) || softmax(C / t)), rows of the relation Y and of cosines C. Add it to cross-entropy.

    Paper: Ai, Wang, Tan, Tan 2022, arXiv 2209.11887.

    With `refs=None` an anchor is its own kin, as in the paper. Pairs that are neither positive nor negative are left out of both
    softmaxes. Every anchor counts: one without kin is asked to be equally far from all.

    Args:
        z: anchors (A, D).
        relation: of anchors and references; positive weights are Y, negatives are 0 there whatever their weight.
        refs: (R, D); None = `z`.
        temperature: t, above 0.
        reduction: "mean" over all anchors, "valid" over those with at least two references to compare, "sum", "none": (A,), or
            "each", see `common.reduce`.
        normalize: whether similarities are cosines; "anchors" takes the references as they are.
        chunk: anchors at a time.

    Raises:
        ConfigError: the temperature is not above 0, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.contra_x(z, kinshot.kin.labels(y)).item(), 3)
    0.442
    """
    check_above("temperature", temperature)

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, ...]:
        similarity, positive, negative = side_by_side(rows, sets, products)
        absent = (positive <= 0) & (negative <= 0)
        wanted = (positive / temperature).masked_fill(absent, ABSENT).log_softmax(dim=1)
        found = (similarity / temperature).masked_fill(absent, ABSENT).log_softmax(dim=1)
        losses = (wanted.exp() * (wanted - found)).masked_fill(absent, 0).sum(dim=1)
        return losses, (~absent).sum(dim=1) > 1  # of one reference a softmax says nothing

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        if refs is None:
            positive, negative = relation.dense()
            positive, negative = positive.clone().fill_diagonal_(1), negative.clone().fill_diagonal_(0)
            sets = [(Relation(Mask(positive), Mask(negative), relation.shape), sets[0][1])]
        losses, valid = by_chunks(some, anchors, sets, chunk)
        return reduce(losses, valid, reduction)
