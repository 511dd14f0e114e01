"""The others that lie just beyond an anchor's kin."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.kin.mined import both_weights, left
from kinshot.kin.miners import MINERS
from kinshot.kin.relation import Relation


@MINERS.register("semi_hard")
def semi_hard(similarity: Tensor, relation: Relation) -> Relation:
    """All kin, and for each of them the most similar other that is less alike than it, or else the least similar other of all.

    Paper: Schroff, Kalenichenko, Philbin 2015, arXiv 1503.03832.
    Departure: a relation has no triplets, so an anchor's kin meet the others that were chosen for any of them; the objective
    `triplet` with `mining=semi_hard` keeps each kin to its own.

    Args:
        similarity: (A, R).
        relation: of anchors and references.

    Raises:
        ConfigError: not one similarity for each pair.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> kinshot.miners.semi_hard(z @ z.T, kinshot.kin.labels(y)).dense()[1]
    tensor([[0., 0., 1., 0.],
            [0., 0., 1., 0.],
            [0., 1., 0., 0.],
            [0., 1., 0., 0.]])
    """
    positive, negative = both_weights("semi_hard", similarity, relation)
    kin, others = positive > 0, negative > 0
    kept = torch.zeros_like(others)
    if others.shape[1] > 0:
        # whatever is no kin chooses what the kin of its row choose first, so that it adds nothing
        chosen = just_beyond(-similarity.detach(), others)
        kept.scatter_(1, torch.where(kin, chosen, chosen.gather(1, kin.to(torch.uint8).argmax(1, keepdim=True))), True)
    exists = kin.any(dim=1, keepdim=True) & others.any(dim=1, keepdim=True)
    return left(relation, positive, negative, (kin & exists, others & exists & kept))


@torch.no_grad()
def just_beyond(d: Tensor, others: Tensor) -> Tensor:
    """For each pair the nearest other farther than it, or where there is none the farthest of all others: columns int64 (A, R).

    Args:
        d: (A, R), smaller for what is more alike, R above 0.
        others: which columns are others, bool (A, R); of a row without any the result means nothing.
    """
    # both by sorting each anchor's others: no (A, R, R)
    ordered, order = d.masked_fill(~others, torch.inf).sort(dim=1)
    count = others.sum(dim=1, keepdim=True)
    place = torch.searchsorted(ordered, d.contiguous(), right=True)
    place = torch.where(place < count, place, count - 1).clamp(min=0)
    return order.gather(1, place)
