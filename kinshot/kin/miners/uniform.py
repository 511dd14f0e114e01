"""Others drawn at random: what every choice of others has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.kin.mined import both_weights
from kinshot.kin.miners import MINERS
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation


@MINERS.register("uniform")
def uniform(similarity: Tensor, relation: Relation, *, generator: torch.Generator | None = None) -> Relation:
    """All kin, and for each of them one other, all equally likely; the baseline of `distance_weighted`.

    Paper: "random" of Wu, Manmatha, Smola, Krahenbuhl 2017, arXiv 1706.07567.

    An other that is drawn for several kin weighs as often; what is not drawn is left out. An anchor without kin keeps no other, and one
    without others no kin.

    Args:
        similarity: (A, R); only its shape counts.
        relation: of anchors and references.
        generator: on the CPU; None = that of torch.

    Raises:
        ConfigError: not one similarity for each pair.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]]), torch.tensor([0, 0, 1, 1])
    >>> mined = kinshot.miners.uniform(z @ z.T, kinshot.kin.labels(y))
    >>> mined.dense()[1].sum(dim=1)
    tensor([1., 1., 1., 1.])
    """
    positive, negative = both_weights("uniform", similarity, relation)
    others = negative > 0
    count = others.sum(dim=1, keepdim=True)
    wanted = torch.where(count[:, 0] > 0, (positive > 0).sum(dim=1), 0)
    most = int(wanted.max()) if wanted.numel() else 0
    draws = torch.rand(len(others), most, generator=generator).to(others.device)
    place = torch.minimum((draws * count).long(), (count - 1).clamp(min=0))
    times = torch.zeros(others.shape, device=others.device)
    if others.shape[1]:
        column = (~others).to(torch.uint8).argsort(dim=1, stable=True).gather(1, place)
        times.scatter_add_(1, column, (torch.arange(most, device=others.device) < wanted.unsqueeze(1)).to(times))
    return Relation(Mask(positive.masked_fill(count == 0, 0)), Mask(negative * times.to(negative)), relation.shape)
