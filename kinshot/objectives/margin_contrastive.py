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
    Sets,
    by_chunks,
    dense_weights,
    distances,
    full_precision,
    gathered,
    is_dense,
    prepare,
    reduce_units,
)


@OBJECTIVES.register("margin_contrastive", takes="relation")
def margin_contrastive(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    positive_margin: float = 0.0,
    negative_margin: float = 10.0,
    eps: float = 1e-6,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = False,
    chunk: int | None = None,
) -> Tensor:
    """Mean over pairs of relu(d - m+) for kin and relu(m- - d) for the others, d the distance (not squared).

    Pairs are weighted by the relation. Listed pairs cost memory for themselves alone, not for all pairs.

    Paper: Hadsell, Chopra, LeCun 2006, CVPR (squared there); as here: McDermott et al. 2023, arXiv 2103.10334.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        positive_margin: m+, distance within which kin cost nothing.
        negative_margin: m-, distance beyond which the others cost nothing.
        eps: added to every component of a difference; at least 0.
        reduction: "mean" over all pairs, "valid" over those that cost something, "sum", "none": each anchor's
            mean (A,), or "each", see `common.reduce`.
        normalize: scales rows to length 1; the distance is then 2 at most.
        chunk: anchors at a time.

    Raises:
        ConfigError: a margin out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.margin_contrastive(z, kinshot.kin.labels(y)).item(), 3)
    5.959
    """
    if not 0 <= positive_margin <= negative_margin:
        raise ConfigError(f"margins: expected 0 <= positive_margin <= negative_margin, got {positive_margin} and {negative_margin}")
    if not eps >= 0:
        raise ConfigError(f"eps: expected at least 0, got {eps}")
    if normalize is True and not negative_margin < 2:
        raise ConfigError(f"negative_margin: expected less than 2, the largest distance of unit rows, got {negative_margin}")

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor, Tensor]:
        sums = [(rows * 0).sum(dim=1)] * 3  # of the graph, also where there is no pair at all
        for relation, r in sets:
            full = distances(rows, r, eps) if is_dense(relation.positive) or is_dense(relation.negative) else None
            for part, sign, margin in ((relation.positive, 1, positive_margin), (relation.negative, -1, negative_margin)):
                if part is not None:
                    distance, weights = _measured(rows, part, r, full, eps)
                    cost = F.relu(sign * (distance - margin))
                    found = (cost * weights, weights, weights * (cost > 0))
                    sums = [a + b.sum(dim=1) for a, b in zip(sums, found, strict=True)]
        return sums[0], sums[1], sums[2]

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        total, mass, active = by_chunks(some, anchors, sets, chunk)
        return reduce_units(total, mass, active, reduction)


def _measured(z: Tensor, part: Part, refs: Tensor, full: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Distances and weights of one part, (A, K) each."""
    if full is not None and not isinstance(part, Listed):
        return full, dense_weights(part, full).to(full.dtype)
    if not isinstance(part, Listed):
        raise ConfigError("relation: expected the distances to all references for a mask or a block")
    distance = torch.linalg.vector_norm(z.unsqueeze(1) - gathered(refs, part.index) + eps, dim=2)
    weights = part.present()
    return distance, torch.ones_like(distance) if weights is None else weights.to(distance.dtype)
