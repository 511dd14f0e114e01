"""The pairs that the hardest pair of the other side makes informative."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.mined import both_weights, left
from kinshot.kin.miners import MINERS
from kinshot.kin.relation import Relation


@MINERS.register("multi_similarity")
def multi_similarity(similarity: Tensor, relation: Relation, *, margin: float = 0.1) -> Relation:
    """Kin less alike than the most similar other plus a margin, and others more alike than the least similar kin minus it.

    Paper: Wang, Han, Huang, Dong, Scott 2019, arXiv 1904.06627.

    An anchor without kin keeps no other, and one without others no kin.

    Args:
        similarity: (A, R), cosines there.
        relation: of anchors and references.
        margin: slack of both comparisons, in units of the similarity; above 2, cosines keep every pair.

    Raises:
        ConfigError: a margin that is no number, or not one similarity for each pair.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 1, 0, 1])
    >>> kinshot.miners.multi_similarity(z @ z.T, kinshot.kin.labels(y)).dense()[1]
    tensor([[0., 1., 0., 0.],
            [1., 0., 1., 0.],
            [0., 1., 0., 1.],
            [0., 0., 1., 0.]])
    """
    if margin != margin:
        raise ConfigError("margin: expected a number, got NaN")
    positive, negative = both_weights("multi_similarity", similarity, relation)
    return left(relation, positive, negative, informative(similarity.detach(), positive > 0, negative > 0, margin))


def informative(similarity: Tensor, kin: Tensor, others: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Which of bool kin and others (A, R) are kept, see `multi_similarity`."""
    if similarity.shape[1] == 0:
        return kin, others
    hardest = similarity.masked_fill(~others, -torch.inf).amax(dim=1, keepdim=True)
    easiest = similarity.masked_fill(~kin, torch.inf).amin(dim=1, keepdim=True)
    return kin & (similarity - margin < hardest), others & (similarity + margin > easiest)
