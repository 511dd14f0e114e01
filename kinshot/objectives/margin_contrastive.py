"""Margin contrastive: kin nearer than one distance, the others farther than another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.parts import Listed, Part
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    Reduction,
    Sets,
    by_chunks,
    check_at_least,
    check_choice,
    dense_weights,
    distances,
    full_precision,
    gathered,
    is_dense,
    prepare,
    products,
    reduce_units,
)

LARGEST = {"distance": 2, "squared_distance": 4}  # of unit rows


@OBJECTIVES.register("margin_contrastive", takes="relation")
def margin_contrastive(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    positive_margin: float = 0.0,
    negative_margin: float = 10.0,
    measure: Literal["distance", "squared_distance", "similarity"] = "distance",
    squared: bool = False,
    sides: Literal["together", "apart"] = "together",
    eps: float = 1e-6,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = False,
    chunk: int | None = None,
) -> Tensor:
    """Mean over pairs of relu(d - m+) for kin and relu(m- - d) for the others, d the distance (not squared).

    Pairs are weighted by the relation. Listed pairs cost memory for themselves alone, not for all pairs.

    Paper: Hadsell, Chopra, LeCun 2006, CVPR; the default: McDermott et al. 2023, arXiv 2103.10334.

    Hadsell's loss is twice that with `squared=True`. The form beside it in libraries and in comparisons of metric learning is
    `sides=apart` with `reduction=valid`: the mean over kin that cost something plus the mean over such others; with
    `measure=similarity`, relu(m+ - s) and relu(s - m-), it is the pair term of contextual similarity (arXiv 2210.01908: m+ 0.75, m- 0.6).

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        positive_margin: m+, distance within which kin cost nothing; of similarities, above which.
        negative_margin: m-, distance beyond which the others cost nothing; of similarities, below which.
        measure: what margins are compared with: the Euclidean distance, its square, or the similarity, a dot product (a cosine where
            rows are normalised), for which both margins must be chosen.
        squared: whether what exceeds a margin is squared.
        sides: "together" takes one mean over all pairs; "apart" adds the mean over kin to that over the others (and so does "sum").
        eps: added to every component of a difference; at least 0, and of no effect on similarities.
        reduction: "mean" over all pairs, "valid" over those that cost something, "sum", "none": each anchor's
            mean (A,), or "each", see `common.reduce`.
        normalize: scales rows to length 1; the distance is then 2 at most.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.margin_contrastive(z, kinshot.kin.labels(y)).item(), 3)
    5.959
    """
    check_choice("sides", sides, ("together", "apart"))
    check_at_least(0, eps=eps)
    _check_margins(measure, positive_margin, negative_margin, unit_rows=normalize is True)
    toward = -1 if measure == "similarity" else 1  # kin cost what is beyond their margin; of similarities, what is short of it

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, ...]:
        found = [[(rows * 0).sum(dim=1)] * 3 for _ in range(2)]  # of the graph, also where there is no pair at all
        for relation, r in sets:
            full = _all_pairs(rows, r, measure, eps) if is_dense(relation.positive) or is_dense(relation.negative) else None
            for part, sign, margin in ((relation.positive, toward, positive_margin), (relation.negative, -toward, negative_margin)):
                if part is not None:
                    side = int(sides == "apart" and part is relation.negative)
                    value, weights = _measured(rows, part, r, full, measure, eps)
                    cost = F.relu(sign * (value - margin))
                    cost = cost.square() if squared else cost
                    more = (cost * weights, weights, weights * (cost > 0))
                    found[side] = [a + b.sum(dim=1) for a, b in zip(found[side], more, strict=True)]
        return (*found[0], *found[1])

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        found = by_chunks(some, anchors, sets, chunk)
        kin, others = found[:3], found[3:]
        if sides == "apart":
            return _apart(kin, others, reduction)
        total, mass, active = (a + b for a, b in zip(kin, others, strict=True))
        return reduce_units(total, mass, active, reduction)


def _check_margins(measure: str, positive: float, negative: float, *, unit_rows: bool) -> None:
    check_choice("measure", measure, ("distance", "squared_distance", "similarity"))
    if measure == "similarity":
        if not negative <= positive or (unit_rows and not (negative >= -1 and positive <= 1)):
            within = "-1 <= negative_margin <= positive_margin <= 1" if unit_rows else "negative_margin <= positive_margin"
            raise ConfigError(f"margins: of similarities, expected {within}, got {negative} and {positive}: try 0.5 and 0.8")
        return
    if not 0 <= positive <= negative:
        raise ConfigError(f"margins: expected 0 <= positive_margin <= negative_margin, got {positive} and {negative}")
    if unit_rows and not negative < LARGEST[measure]:
        raise ConfigError(f"negative_margin: expected less than {LARGEST[measure]}, the largest {measure} of unit rows, got {negative}")


def _apart(kin: Sequence[Tensor], others: Sequence[Tensor], reduction: Reduction) -> Tensor:
    """Both sides' means added up. A pair weighs its share of its side, so that anchors have losses and weights here, too."""
    total = mass = torch.zeros_like(kin[0])
    for side_total, side_mass, active in (kin, others):
        over = (active if reduction == "valid" else side_mass).sum()
        over = torch.where(over > 0, over, 1)
        total, mass = total + side_total / over, mass + side_mass / over
    if reduction == "valid":
        return total.sum()
    return reduce_units(total, mass / torch.where(mass.sum() > 0, mass.sum(), 1), mass, reduction)


def _all_pairs(z: Tensor, refs: Tensor, measure: str, eps: float) -> Tensor:
    """The measure of anchors and all references (A, R)."""
    if measure == "similarity":
        return products(z, refs)
    found = distances(z, refs, eps)
    return found.square() if measure == "squared_distance" else found


def _measured(z: Tensor, part: Part, refs: Tensor, full: Tensor | None, measure: str, eps: float) -> tuple[Tensor, Tensor]:
    """The measure and the weights of one part, (A, K) each."""
    if full is not None and not isinstance(part, Listed):
        return full, dense_weights(part, full).to(full.dtype)
    if not isinstance(part, Listed):
        raise ConfigError("relation: expected the distances to all references for a mask or a block")
    rows = gathered(refs, part.index)
    if measure == "similarity":
        value = (z.unsqueeze(1) * rows).sum(dim=2)
    else:
        value = torch.linalg.vector_norm(z.unsqueeze(1) - rows + eps, dim=2)
        value = value.square() if measure == "squared_distance" else value
    weights = part.present()
    return value, torch.ones_like(value) if weights is None else weights.to(value.dtype)
