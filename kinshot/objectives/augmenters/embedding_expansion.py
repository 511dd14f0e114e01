"""Embedding expansion: points between kin, on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.common import at_least_float32, full_precision, unit


@AUGMENTERS.register("embedding_expansion")
def embedding_expansion(z: Tensor, relation: Relation, *, points: int = 2, normalize: bool = True) -> tuple[Tensor, Relation]:
    """`points` synthetic rows at equal steps between every two kin of the batch, which stand for both of them.

    Paper: Ko, Gu 2020, arXiv 2003.02546 (Embedding Expansion).
    Departure: there a loss takes the nearest of two classes' points; here a miner may choose among all (`hard` keeps the nearest
        of an anchor's others), and synthetic rows are anchors, too.

    A synthetic row is kin to what both of its ends are kin to, and to the ends themselves; it is told apart from what both are told
    apart from, each with the smaller of both weights; anything else is neither. Of classes it is a member of its ends' class. A pair
    is one if either is kin to the other. As there are (n - 1) n / 2 pairs in a class of n, use it with few rows of a class.

    Args:
        z: (A, D).
        relation: of the rows to one another, (A, A).
        points: S, rows between each two kin, at least 1.
        normalize: scales rows to length 1 before, and synthetic rows after, as in the paper; False takes straight lines between rows
            as they are.

    Returns:
        (A + P S, D) rows, normalised like the synthetic ones, and their relation, where P is the number of pairs.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1])
    >>> rows, relation = kinshot.augmenters.embedding_expansion(z, kinshot.kin.labels(y), points=1, normalize=False)
    >>> rows[3], relation.shape  # between the two kin
    (tensor([0.5000, 0.5000]), (4, 4))
    """
    if points < 1:
        raise ConfigError(f"points: expected at least 1, got {points}")
    if z.dim() != 2 or relation.shape != (len(z), len(z)):
        raise ConfigError(f"embedding_expansion: expected (A, D) and a relation (A, A), got {tuple(z.shape)} and {relation.shape}")
    positive, negative = (part.to(z.device) for part in relation.dense())
    linked = (positive > 0) | (positive > 0).T
    a, b = linked.triu(1).nonzero(as_tuple=True)
    with full_precision(z):
        rows = unit(z) if normalize else at_least_float32(z)
        share = torch.arange(1, points + 1, device=z.device, dtype=rows.dtype).view(-1, 1, 1) / (points + 1)
        between = (rows[a] * (1 - share) + rows[b] * share).flatten(0, 1)
        between = unit(between) if normalize else between
    ends = a.repeat(points), b.repeat(points)
    # for its synthetic rows an end is kin to itself, and to the other end whichever of them said so
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    kin = _joined(torch.where(own, torch.ones_like(positive), torch.maximum(positive, positive.T)), ends)
    apart = _joined(negative, ends)
    kin[: len(z), : len(z)], apart[: len(z), : len(z)] = positive, negative
    synthetic = torch.arange(len(z), len(kin), device=z.device)
    kin[synthetic, synthetic] = 0
    return torch.cat([rows, between]), Relation(Mask(kin), Mask(apart.masked_fill(kin > 0, 0)), (len(kin), len(kin)))


def _joined(weights: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    """Weights (A, A) with a row and a column more for each pair of ends: the smaller of both ends' weights."""
    taller = torch.cat([weights, torch.minimum(weights[ends[0]], weights[ends[1]])])
    return torch.cat([taller, torch.minimum(taller[:, ends[0]], taller[:, ends[1]])], dim=1)
