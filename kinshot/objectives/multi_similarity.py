"""Multi-similarity: soft pulls and pushes of all pairs, the informative ones mined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.miners.multi_similarity import informative
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    Sets,
    as_they_are,
    by_chunks,
    check_above,
    full_precision,
    prepare,
    present,
    products,
    reduce,
    some_in_row,
)
from kinshot.objectives.soft_sum import log_one_plus_sum


@OBJECTIVES.register("multi_similarity", takes="relation")
def multi_similarity(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    positive_scale: float = 2.0,
    negative_scale: float = 40.0,
    threshold: float = 0.5,
    negative_threshold: float | None = None,
    mining_margin: float | None = 0.1,
    drop_identical: bool = False,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "valid",
    normalize: bool | Literal["anchors"] = True,
    chunk: int | None = None,
) -> Tensor:
    """Mean over anchors of log(1 + sum_P exp(-w+ (s - t))) / w+ + log(1 + sum_N exp(w- (s - t))) / w-.

    Mining is that of `kin.miners.multi_similarity`. An anchor counts if positives and negatives are left. Weights of
    the relation multiply the exponentials; mining only asks whether they are above 0.

    Paper: Wang, Han, Huang, Dong, Scott 2019, arXiv 1904.06627; for graphs: McDermott et al. 2023, arXiv 2103.10334.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references; mining sees all sets.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        positive_scale: w+, above 0.
        negative_scale: w-, above 0.
        threshold: t, similarity that pairs are compared with.
        negative_threshold: another t for the others; None = the same. Ebrahimpour et al. 2022 (arXiv 2112.14327) print -t, which is most
            likely a slip of the sign.
        mining_margin: m; None = no mining.
        drop_identical: whether kin of similarity 1 - 1e-5 or more are left out, as in the released code.
        reduction: "valid" over anchors that count (0 when there are none); "mean" over all, as the released code; "sum"; "none": (A,);
            or "each", see `common.reduce`.
        normalize: whether similarities are cosines; "anchors" takes the references as they are.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 1, 0, 1])
    >>> round(kinshot.objectives.multi_similarity(z, kinshot.kin.labels(y)).item(), 3)
    0.957
    """
    check_above("positive_scale", positive_scale)
    check_above("negative_scale", negative_scale)
    beyond = threshold if negative_threshold is None else negative_threshold
    if mining_margin is not None and mining_margin != mining_margin:
        raise ConfigError("mining_margin: expected a number or None, got NaN")

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor]:
        similarity, positive, negative = as_they_are(rows, sets, products)
        positive = positive.masked_fill(identical(similarity), 0) if drop_identical else positive
        kin, others = present(positive), present(negative)
        if mining_margin is not None:
            kin, others = informative(similarity.detach(), kin, others, mining_margin)
            positive, negative = _kept(positive, kin), _kept(negative, others)
        pull = log_one_plus_sum(similarity, positive, -positive_scale, threshold) / positive_scale
        push = log_one_plus_sum(similarity, negative, negative_scale, beyond) / negative_scale
        return pull + push, some_in_row(kin) & some_in_row(others)

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        losses, valid = by_chunks(some, anchors, sets, chunk)
        return reduce(losses, valid, reduction)


def identical(similarity: Tensor) -> Tensor:
    """Which pairs are copies of one another to the eye of released codes, which so leave out an anchor itself: bool (A, R)."""
    return similarity >= 1 - 1e-5


def _kept(weights: Tensor, mask: Tensor) -> Tensor:
    """Weights, bool or float, of the pairs of a mask that is True nowhere else; 0 for all others."""
    return mask if weights.dtype == torch.bool else weights * mask
