"""HIER: hierarchical proxies in hyperbolic space, which become ancestors of what is near without any label of the hierarchy."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core import poincare
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import at_least_float32, check_above, check_at_least, check_choice, full_precision
from kinshot.objectives.module import ObjectiveModule


@torch.no_grad()
def affinities(distance: Tensor, kin: Tensor | None = None) -> Tensor:
    """How close points are, (N, N): exp(-distance), and 1 more for kin; a point is its own.

    Args:
        distance: of the points to one another, (N, N).
        kin: bool (N, N); None = no point has any, itself included.
    """
    close = (-distance).exp()
    return close if kin is None else close + (kin | torch.eye(len(kin), dtype=torch.bool, device=kin.device)).to(close)


@torch.no_grad()
def reciprocal_triplets(
    affinity: Tensor, neighbors: int, draws: int, *, generator: torch.Generator | None = None, anchor_among_negatives: bool = False
) -> Tensor:
    """Triplets (i, j, k): j is among the nearest of i and i among those of j, and of k at least one of both does not hold.

    An anchor with fewer than two such j, or without a k, is left out. Draws are with replacement.

    Args:
        affinity: (N, N), larger for what is closer; a point is the closest to itself, and counts among its own nearest.
        neighbors: how many are nearest.
        draws: triplets of each anchor.
        generator: on the CPU; None = that of torch.
        anchor_among_negatives: whether i itself may be drawn as k, as in the released code.

    Returns:
        int64 (T, 3).
    """
    count = len(affinity)
    if count == 0:
        return torch.zeros(0, 3, dtype=torch.int64, device=affinity.device)
    near = torch.zeros_like(affinity, dtype=torch.bool)
    near.scatter_(1, affinity.topk(min(neighbors, count), dim=1).indices, True)
    own = torch.eye(count, dtype=torch.bool, device=affinity.device)
    both = near & near.T & ~own
    apart = ~both if anchor_among_negatives else ~both & ~own
    anchors = ((both.sum(dim=1) > 1) & apart.any(dim=1)).nonzero().squeeze(1)
    columns = [_drawn(pool[anchors], torch.rand(len(anchors), draws, generator=generator)) for pool in (both, apart)]
    return torch.stack([anchors.unsqueeze(1).expand(-1, draws), *columns], dim=2).flatten(0, 1)


def _drawn(pool: Tensor, uniform: Tensor) -> Tensor:
    """A column of bool (A, N) for each number in [0, 1) of (A, K), all members of a row's pool alike: int64 (A, K)."""
    size = pool.sum(dim=1, keepdim=True)
    place = (uniform.to(pool.device) * size).long().clamp(max=size - 1)
    members = pool.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    return members.gather(1, place)


def gumbel(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Gumbel noise, drawn on the CPU."""
    smallest = torch.finfo(torch.float32).tiny
    uniform = torch.rand(shape, generator=generator).clamp_(min=smallest)
    return uniform.log_().neg_().clamp_(min=smallest).log_().neg_().to(like)


def ancestor_loss(
    to_proxies: Tensor, triplets: Tensor, noise: tuple[Tensor, Tensor], *, temperature: float = 0.1, margin: float = 0.1
) -> Tensor:
    """Mean over triplets of [d_ir - d_iq + m]+ + [d_jr - d_jq + m]+ + [d_kq - d_kr + m]+; 0 where r = q, or without triplets.

    r is the ancestor of i and j, q that of i, j and k: the proxy that is drawn by the largest of its distances to them, over the
    temperature, with Gumbel noise; the choice is hard, its gradient that of the softmax (straight through).

    Paper: Kim, Jeong, Kwak 2023, arXiv 2212.14258.

    Args:
        to_proxies: distances of points to proxies (N, P).
        triplets: int64 (T, 3) of points.
        noise: Gumbel noise of the choices of r and q, (T, P) each.
        temperature: of the choices, above 0.
        margin: m, from 0.
    """
    if len(triplets) == 0:
        return to_proxies.sum() * 0.0
    d_i, d_j, d_k = (to_proxies[triplets[:, column]] for column in range(3))
    pair = torch.maximum(d_i, d_j)
    r = _hard(-pair / temperature + noise[0])
    q = _hard(-torch.maximum(pair, d_k) / temperature + noise[1])
    between = r - q  # of equal ancestors 0 for every distance
    costs = (F.relu(margin + sign * (d * between).sum(dim=1)) for d, sign in ((d_i, 1), (d_j, 1), (d_k, -1)))
    same = (r.detach() * q.detach()).sum(dim=1) > 0.5
    return torch.where(same, 0, sum(costs, torch.zeros_like(pair[:, 0]))).mean()


def _hard(logits: Tensor) -> Tensor:
    """One-hot rows of the largest logit, with the gradient of the softmax."""
    soft = logits.softmax(dim=1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


@OBJECTIVES.register("hier", takes="relation")
class Hier(ObjectiveModule):
    """Hierarchical proxies: what is close together shares a near ancestor, what is farther a higher one; a term beside another.

    Paper: Kim, Jeong, Kwak 2023, arXiv 2212.14258 (HIER).
    Departure: an anchor is never its own negative, as it may be in the released code, and distances are exact; `form=released` does both as
        there. Rows that the relation says nothing of take no part.

    Embeddings and proxies are mapped into the Poincare ball. Triplets are drawn among points that are each other's nearest; kin count as
    nearer by the whole range of affinities. The same is asked of the proxies themselves, which know no kin. Triplets and noise are
    drawn by seed and step.

    Args:
        dim: of embeddings.
        classes: plays no part.
        context: what is known of the run.
        proxies: how many, at least 2.
        neighbors: how many points count as nearest, the point itself among them; at least 2.
        draws: triplets of each anchor, at least 1.
        temperature: of the choice of ancestors; above 0.
        margin: from 0.
        curvature: c of the ball; above 0.
        clip: length that embeddings are clipped to before they are mapped; above 0.
        proxy_lr: share of the learning rate that proxies take; above 0.
        form: "paper", or "released": the anchor among its negatives, and distances clamped as there.

    Raises:
        ConfigError: a setting out of range, references, or shapes that do not fit together.

    >>> context = kinshot.RunContext(num_samples=12, batch_size=12, steps_per_epoch=1, total_steps=10, seed=0)
    >>> loss = kinshot.objectives.hier(8, 3, context, proxies=16, neighbors=4)
    >>> z = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    >>> loss(z, kinshot.kin.labels(torch.arange(12) % 3), step=3).shape
    torch.Size([])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext,
        *,
        proxies: int = 512,
        neighbors: int = 20,
        draws: int = 50,
        temperature: float = 0.1,
        margin: float = 0.1,
        curvature: float = 0.1,
        clip: float = 2.3,
        proxy_lr: float = 1.0,
        form: Literal["paper", "released"] = "paper",
    ) -> None:
        super().__init__()
        check_at_least(2, proxies=proxies, neighbors=neighbors)
        check_at_least(1, draws=draws)
        check_at_least(0, margin=margin)
        for name, value in (("temperature", temperature), ("curvature", curvature), ("clip", clip), ("proxy_lr", proxy_lr)):
            check_above(name, value)
        check_choice("form", form, ("paper", "released"))
        self.neighbors, self.draws, self.temperature, self.margin = neighbors, draws, temperature, margin
        self.curvature, self.clip, self.released, self.seed = curvature, clip, form == "released", context.seed
        self.lr_scale = proxy_lr
        self.proxies = nn.Parameter(torch.randn(proxies, dim) / math.sqrt(dim) * clip * 0.9)

    def forward(self, z: Tensor, relation: Relation, refs: None = None, y: Tensor | None = None, step: int = 0) -> Tensor:
        """The loss of points (N, D), whose kin are closer, and of the proxies; 0 where the relation says nothing."""
        wide = self.proxies.shape[1]
        if z.dim() != 2 or z.shape[1] != wide or relation.shape != (len(z), len(z)) or refs is not None:
            got = f"{tuple(z.shape)} and {relation.shape}{'' if refs is None else ' with references'}"
            raise ConfigError(f"hier: expected rows (N, {wide}) and the relation (N, N) of the batch alone, got {got}")
        kin, others = (part.to(z.device) > 0 for part in relation.dense())
        known = (kin.any(dim=1) | others.any(dim=1)).nonzero().squeeze(1)
        if len(known) == 0:
            return z.sum() * 0.0
        with full_precision(z):
            points, proxies = self.to_ball(z[known]), self.to_ball(self.proxies)
            generator = keyed_generator(self.seed, "hier", step)
            own = affinities(self._distances(points, points).detach(), kin[known][:, known])
            among = affinities(self._distances(proxies, proxies).detach())
            return self._loss(points, proxies, own, generator) + self._loss(proxies, proxies, among, generator)

    def to_ball(self, z: Tensor) -> Tensor:
        """Rows (N, D) as points of the Poincare ball, for instance of the proxies."""
        return poincare.to_ball(at_least_float32(z), self.curvature, self.clip)

    def _loss(self, points: Tensor, proxies: Tensor, affinity: Tensor, generator: torch.Generator) -> Tensor:
        chosen = reciprocal_triplets(affinity, self.neighbors, self.draws, generator=generator, anchor_among_negatives=self.released)
        shape = (len(chosen), len(proxies))
        noise = gumbel(shape, points, generator), gumbel(shape, points, generator)
        return ancestor_loss(self._distances(points, proxies), chosen, noise, temperature=self.temperature, margin=self.margin)

    def _distances(self, points: Tensor, others: Tensor) -> Tensor:
        return poincare.distances(points, others, self.curvature, clamped=self.released)
