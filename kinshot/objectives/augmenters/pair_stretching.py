"""Pair stretching: kin pushed apart along their line, the more the closer they are."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.augmenters.copies import copied
from kinshot.objectives.common import at_least_float32, check_above, full_precision, unit


@AUGMENTERS.register("pair_stretching")
def pair_stretching(
    z: Tensor, relation: Relation, *, strength: float = 0.5, reach: float = 1.4, normalize: bool = True
) -> tuple[Tensor, Relation]:
    """For every kin a and p nearer than `reach`, a harder p: p + t (p - a), t = strength (1 - d / reach), d their distance.

    Paper: Zhu, Hu, Dong, He, Yu, Zhang 2021, arXiv 2112.02259, the first of its two stages.
    Departure: a reconstruction from the paper's abstract, and its generative network is left out: stretched rows are taken as they are.

    A stretched row stands for p: it is related as p is, and kin to p and to what else p was stretched to. Both ends of a pair are
    stretched where each is kin to the other. Of n members of a class come at most n (n - 1) rows. Kin in one place have no line.

    Args:
        z: (A, D).
        relation: of the rows to one another, (A, A).
        strength: of the closest pairs, above 0.
        reach: distance from which pairs stay as they are, above 0.
        normalize: scales rows to length 1 before, and stretched rows after.

    Returns:
        (A + S, D) rows, and their relation.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    >>> rows, relation = kinshot.augmenters.pair_stretching(z, kinshot.kin.labels(y), normalize=False)
    >>> rows[3], relation.shape  # the second of the first two, farther from the first
    (tensor([0.7452, 0.7645]), (5, 5))
    """
    check_above("strength", strength)
    check_above("reach", reach)
    if z.dim() != 2 or relation.shape != (len(z), len(z)):
        raise ConfigError(f"pair_stretching: expected (A, D) and a relation (A, A), got {tuple(z.shape)} and {relation.shape}")
    with full_precision(z):
        rows = unit(z) if normalize else at_least_float32(z)
        kin = relation.dense()[0].to(z.device) > 0
        anchor, partner = kin.fill_diagonal_(False).nonzero(as_tuple=True)
        line = rows[partner] - rows[anchor]
        d = line.detach().norm(dim=1)
        near = (d > 0) & (d < reach)
        line, partner = line[near], partner[near]
        stretch = strength * (1 - torch.linalg.vector_norm(line, dim=1, keepdim=True) / reach)
        stretched = rows[partner] + stretch * line
        stretched = unit(stretched) if normalize else stretched
    return torch.cat([rows, stretched]), copied(relation, partner)
