"""Others drawn at all distances alike, however many of them lie at each."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.mined import both_weights
from kinshot.kin.miners import MINERS
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation


@MINERS.register("distance_weighted")
def distance_weighted(
    similarity: Tensor,
    relation: Relation,
    dim: int,
    *,
    cutoff: float = 0.5,
    nonzero_loss_cutoff: float = 1.4,
    generator: torch.Generator | None = None,
) -> Relation:
    """All kin, and for each of them one other, drawn with the inverse of how often its distance occurs on the sphere.

    Paper: Wu, Manmatha, Smola, Krahenbuhl 2017, arXiv 1706.07567.
    Departure: where all others of an anchor lie beyond the second cut-off, they are equally likely; the authors' code then draws among
        all rows, kin included.

    An other that is drawn for several kin weighs as often; what is not drawn is left out. An anchor without kin keeps no other, and one
    without others no kin. See `probabilities`.

    Args:
        similarity: (A, R), cosines.
        relation: of anchors and references.
        dim: D, numbers in an embedding, which a run knows.
        cutoff: nearer others are drawn as if they were at this distance, above 0: what is nearest is noise.
        nonzero_loss_cutoff: others at this distance or beyond it are not drawn, above `cutoff` and at most 2: with the paper's margin loss
            (boundary 1.2, margin 0.2) they cost nothing.
        generator: on the CPU; None = that of torch.

    Raises:
        ConfigError: a number out of range, or not one similarity for each pair.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]]), torch.tensor([0, 0, 1, 1])
    >>> mined = kinshot.miners.distance_weighted(z @ z.T, kinshot.kin.labels(y), 2)
    >>> mined.dense()[1][0]  # the last row is too far away
    tensor([0., 0., 1., 0.])
    """
    positive, negative = both_weights("distance_weighted", similarity, relation)
    kin, others = positive > 0, negative > 0
    likely = probabilities(similarity, others, dim, cutoff=cutoff, nonzero_loss_cutoff=nonzero_loss_cutoff)
    wanted = torch.where(others.any(dim=1), kin.sum(dim=1), 0)
    most = int(wanted.max()) if wanted.numel() else 0
    draws = torch.rand(len(likely), most, generator=generator).to(likely)
    times = _times(likely, draws, torch.arange(most, device=likely.device) < wanted.unsqueeze(1))
    kept = positive.masked_fill(~others.any(dim=1, keepdim=True), 0)
    return Relation(Mask(kept), Mask(negative * times.to(negative)), relation.shape)


@torch.no_grad()
def probabilities(similarity: Tensor, others: Tensor, dim: int, *, cutoff: float = 0.5, nonzero_loss_cutoff: float = 1.4) -> Tensor:
    """How likely each other is to be drawn for an anchor: (A, R), rows sum to 1, or are 0 where there are no others.

    The distances of points on a sphere of D numbers occur as often as q(d) = d^(D-2) (1 - d^2 / 4)^((D-3)/2); the probability is in
    proportion to 1 / q(max(d, cutoff)) where d is below the second cut-off, and 0 elsewhere.

    Args:
        similarity: cosines (A, R).
        others: bool (A, R).
        dim: D, at least 2.
        cutoff: see `distance_weighted`.
        nonzero_loss_cutoff: see `distance_weighted`.
    """
    if dim < 2:
        raise ConfigError(f"dim: expected at least 2, a sphere that is more than two points, got {dim}")
    if not 0 < cutoff < 2:
        raise ConfigError(f"cutoff: expected a distance above 0 and below 2, the largest of unit rows, got {cutoff}")
    if not cutoff < nonzero_loss_cutoff <= 2:
        raise ConfigError(f"nonzero_loss_cutoff: expected above cutoff, {cutoff}, and at most 2, got {nonzero_loss_cutoff}")
    d = (2 - 2 * similarity.detach()).clamp(min=0).sqrt()
    near = others & (d < nonzero_loss_cutoff)
    d = d.clamp(min=cutoff)
    logits = (2 - dim) * d.log() + (3 - dim) / 2 * (1 - d.square() / 4).clamp(min=1e-7).log()
    # those beyond the cut-off stand for an anchor that has nobody else
    logits = torch.where(near, logits, torch.where(near.any(dim=1, keepdim=True), -torch.inf, 0)).masked_fill(~others, -torch.inf)
    return torch.where(others.any(dim=1, keepdim=True), logits.softmax(dim=1), 0)


def _times(likely: Tensor, draws: Tensor, wanted: Tensor) -> Tensor:
    """How often each column is drawn, (A, R): by numbers in [0, 1), (A, K), of which bool (A, K) are wanted."""
    times = torch.zeros_like(likely)
    if likely.shape[1] == 0 or draws.shape[1] == 0:
        return times
    cumulated = likely.cumsum(dim=1)
    total = cumulated[:, -1:]
    # strictly below the total, so that no column of probability 0 is ever drawn
    column = torch.searchsorted(cumulated, torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total))), right=True)
    return times.scatter_add_(1, column.clamp(max=likely.shape[1] - 1), wanted.to(times))
