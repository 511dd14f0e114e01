"""Each anchor's hardest kin and hardest other."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.kin.mined import both_weights, left
from kinshot.kin.miners import MINERS
from kinshot.kin.relation import Relation


@MINERS.register("hard")
def hard(similarity: Tensor, relation: Relation) -> Relation:
    """Each anchor's least similar kin and its most similar other; of equals the first, and neither where it has not both.

    Paper: Hermans, Beyer, Leibe 2017, arXiv 1703.07737 (batch hard).

    Args:
        similarity: (A, R).
        relation: of anchors and references.

    Raises:
        ConfigError: not one similarity for each pair.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> kinshot.miners.hard(z @ z.T, kinshot.kin.labels(y)).dense()[1]
    tensor([[0., 0., 1., 0.],
            [0., 0., 1., 0.],
            [0., 1., 0., 0.],
            [0., 1., 0., 0.]])
    """
    positive, negative = both_weights("hard", similarity, relation)
    kin, others = positive > 0, negative > 0
    both = kin.any(dim=1, keepdim=True) & others.any(dim=1, keepdim=True)
    return left(relation, positive, negative, (kin & both & _first(-similarity, kin), others & both & _first(similarity, others)))


def _first(values: Tensor, among: Tensor) -> Tensor:
    """Where each row's largest value among some is: bool (A, R)."""
    mask = torch.zeros_like(among)
    return mask if among.shape[1] == 0 else mask.scatter_(1, values.detach().masked_fill(~among, -torch.inf).argmax(1, keepdim=True), True)
