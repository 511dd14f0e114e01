"""Triplet loss: an anchor nearer to its kin than to the others, over all triplets or mined ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.miners.semi_hard import just_beyond
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    Sets,
    by_chunks,
    check_above,
    check_choice,
    distances,
    full_precision,
    prepare,
    products,
    reduce_units,
    side_by_side,
)


@OBJECTIVES.register("triplet", takes="relation")
def triplet(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    margin: float | None = 0.2,
    sharpness: float | None = None,
    mining: Literal["all", "hard", "semi_hard", "hard_negative"] = "all",
    distance: Literal["euclidean", "cosine"] = "euclidean",
    squared: bool = False,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = True,
    chunk: int | None = None,
) -> Tensor:
    """Mean over triplets of relu(d(a, p) - d(a, n) + margin), or of softplus(d(a, p) - d(a, n)).

    Paper: Schroff, Kalenichenko, Philbin 2015, arXiv 1503.03832 (FaceNet); batch-hard and the soft margin: Hermans, Beyer, Leibe
        2017, arXiv 1703.07737.
    Departure: FaceNet squares its distances, here they are as they are, as in the second paper, which saw the batch collapse with
        squares; `squared` is FaceNet's form.

    All valid triplets are compared by blocks of (anchors, R, R): give `chunk` for large batches. In "all" a triplet weighs the
    product of its pairs' weights; mined triplets weigh 1.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references; triplets may span sets.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        margin: above 0, in units of the distance, or None = soft; of unit rows below their largest distance, 2 (squared 4).
        sharpness: b of a soft margin softplus(b x) / b, x with the margin that is given, above 0; None = the hinge, or 1 where no
            margin is. MATHM (arXiv 2112.07966) has 20 beside a margin of 0.2.
        mining: "all"; "hard": each anchor's farthest kin and nearest other; "semi_hard": for each kin the nearest other that is
            farther than it, or where there is none the farthest of all others; "hard_negative": for each kin the nearest other.
        distance: "euclidean", or "cosine": 1 - dot product, half of the squared distance of unit rows.
        squared: whether Euclidean distances are squared, as FaceNet has them.
        reduction: "mean" over all triplets, "valid" over those that cost something, "sum", "none": each anchor's
            mean (A,), or "each", see `common.reduce`.
        normalize: scales rows to length 1.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.triplet(z, kinshot.kin.labels(y), margin=1.0).item(), 3)
    0.294
    """
    _check_margin(margin, 4 if squared else 2, unit_rows=normalize is True)
    check_choice("mining", mining, tuple(_MINERS))
    if sharpness is not None:
        check_above("sharpness", sharpness)
    check_choice("distance", distance, ("euclidean", "cosine"))
    if distance == "cosine" and normalize is False:
        raise ConfigError("distance: expected unit rows for the cosine, got normalize=False: leave it on")
    if distance == "cosine" and squared:
        raise ConfigError("squared: the cosine distance is that of squares already: leave it off, or take distance=euclidean")

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor, Tensor]:
        d, positive, negative = side_by_side(rows, sets, _cosine if distance == "cosine" else _squares if squared else distances)
        if d.shape[1] == 0:
            return (d.sum(dim=1),) * 3
        gap, weights = _MINERS[mining](d, positive, negative)
        cost = _cost(gap, margin, sharpness)
        cost = torch.where(weights > 0, cost * weights, 0)
        return cost.flatten(1).sum(dim=1), weights.flatten(1).sum(dim=1), (weights * (cost > 0)).flatten(1).sum(dim=1)

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        total, mass, active = by_chunks(some, anchors, sets, chunk)
        return reduce_units(total, mass, active, reduction)


def _check_margin(margin: float | None, largest: float, *, unit_rows: bool) -> None:
    if margin is not None and not margin > 0:
        raise ConfigError(f"margin: expected a number above 0, or None for the soft margin, got {margin}")
    if margin is not None and unit_rows and not margin < largest:
        raise ConfigError(f"margin: expected less than {largest}, the largest distance of unit rows, got {margin}")


def _cost(gap: Tensor, margin: float | None, sharpness: float | None) -> Tensor:
    if sharpness is None:
        return F.softplus(gap) if margin is None else F.relu(gap + margin)
    return F.softplus(gap + (margin or 0), beta=sharpness)


def _squares(z: Tensor, refs: Tensor) -> Tensor:
    return distances(z, refs).square()


def _cosine(z: Tensor, refs: Tensor) -> Tensor:
    return 1 - products(z, refs)


def _every(d: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Gaps (A, R, R) of all triplets, and their weights."""
    return d.unsqueeze(2) - d.unsqueeze(1), positive.unsqueeze(2) * negative.unsqueeze(1)


def _hardest(d: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """One gap (A, 1) for each anchor."""
    kin, others = positive > 0, negative > 0
    far = d.masked_fill(~kin, -1).amax(dim=1)
    near = d.masked_fill(~others, torch.finfo(d.dtype).max / 4).amin(dim=1)
    exists = kin.any(dim=1) & others.any(dim=1)
    return torch.where(exists, far - near, 0).unsqueeze(1), exists.to(d.dtype).unsqueeze(1)


def _semi_hard(d: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """One gap (A, R) for each positive pair."""
    kin, others = positive > 0, negative > 0
    exists = kin & others.any(dim=1, keepdim=True)
    return torch.where(exists, d - d.gather(1, just_beyond(d, others)), 0), exists.to(d.dtype)


def _hard_negative(d: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """One gap (A, R) for each positive pair."""
    kin, others = positive > 0, negative > 0
    near = d.masked_fill(~others, torch.finfo(d.dtype).max / 4).amin(dim=1, keepdim=True)
    exists = kin & others.any(dim=1, keepdim=True)
    return torch.where(exists, d - near, 0), exists.to(d.dtype)


_MINERS = {"all": _every, "hard": _hardest, "semi_hard": _semi_hard, "hard_negative": _hard_negative}
