"""Neighbourhood components analysis: an anchor picks a neighbour by a softmax of distances, and should pick one of its kin."""

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
    check_above,
    check_choice,
    distances,
    full_precision,
    log_sum,
    prepare,
    reduce,
    side_by_side,
)


@OBJECTIVES.register("nca", takes="relation")
def nca(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    form: Literal["log", "expected"] = "log",
    temperature: float = 1.0,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = False,
    chunk: int | None = None,
) -> Tensor:
    """Mean over anchors of -log p or 1 - p, where p = sum_P exp(-d^2 / t) / sum_PN exp(-d^2 / t) is the chance to pick a kin.

    Paper: Goldberger, Roweis, Hinton, Salakhutdinov 2004, Neighbourhood components analysis, NIPS.

    The paper maximises the sum of p, the expected number of right picks (`form=expected`), and names the sum of log p beside it
    (`form=log`), whose gradient does not vanish where an anchor is far from all its kin. Weights of the relation multiply the
    exponentials. Of cosines instead of squared distances it is `info_nce` with `form=in`, up to the logarithm of the number of kin.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        form: "log" or "expected".
        temperature: t, divides squared distances; above 0. 1 in the paper, where the map that is learned sets the scale.
        reduction: "mean" over all anchors, "valid" over those that have kin, "sum", "none": (A,), or "each", see `common.reduce`.
        normalize: scales rows to length 1; squared distances are then 4 at most, and the temperature should be well below 1.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.nca(z, kinshot.kin.labels(y)).item(), 3)
    0.43
    """
    check_choice("form", form, ("log", "expected"))
    check_above("temperature", temperature)

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor]:
        d, positive, negative = side_by_side(rows, sets, distances)
        nearness = -d.square() / temperature
        log_p = log_sum(nearness, positive) - log_sum(nearness, positive + negative)
        return -log_p if form == "log" else -torch.expm1(log_p), (positive > 0).any(dim=1)

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        losses, valid = by_chunks(some, anchors, sets, chunk)
        return reduce(losses, valid, reduction)
