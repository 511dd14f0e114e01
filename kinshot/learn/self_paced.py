"""Self-paced weights of samples: of every class those that cost least count first, and what costs most, wrong labels, never."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin.kin import Pairs
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation

WARM_UP, FIRST, EASY, MOMENTUM = 0.2, 0.5, 0.7, 0.5
"""Share of training in which all count; share of a class that counts then; of those the share that counts wholly; of remembered losses."""


@torch.no_grad()
def balanced_weights(losses: Tensor, y: Tensor, share: float, easy: float = EASY) -> Tensor:
    """A weight from 0 to 1 for each sample, (N,), by where its loss ranks in its class, so that classes keep their balance.

    1 for the `easy` part of the `share` that counts, falling in equal steps to 0 at its end. Samples of unknown class or loss weigh 1.

    Args:
        losses: (N,), NaN unknown.
        y: classes, int64 (N,), -1 unknown.
        share: of each class that counts, above 0; 1 = all, and all weigh 1.
        easy: of those, the share that weighs 1, from 0 and below 1.
    """
    weights = torch.ones_like(losses)
    if share >= 1:
        return weights
    known = ((y >= 0) & ~losses.isnan()).nonzero().squeeze(1)
    order = known[losses[known].argsort(stable=True)]
    order = order[y[order].argsort(stable=True)]
    _, own, count = torch.unique_consecutive(y[order], return_inverse=True, return_counts=True)
    rank = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[own]
    place = (rank + 0.5) / count[own]
    weights[order] = ((share - place) / (share * (1 - easy))).clamp(0, 1).to(weights)
    return weights


class SelfPaced(nn.Module):
    """What a term remembers of every sample, and the weights that follow: pairs count by the product of both samples' weights.

    Paper: BSPML-style, after Zhang, Luo, Gu 2023, arXiv 2211.11751, from its abstract: weights between 0 and 1 that are balanced over
        classes, from easy to hard, and stop before the noise; there they solve a problem of their own, here losses rank in their class.

    All count in the first fifth of training; then half of every class, the cheapest; from round to round, an epoch each, more of it, up to
    `share` at the end. Losses are those of anchors without weights, and old ones fade.

    Args:
        share: of each class that counts in the end, above 0 and below 1: what labels are likely right.
        each: (z, relation, refs) -> losses of anchors and what each counts, (2, A).
        context: of the run.
    """

    losses: Tensor
    classes: Tensor
    weights: Tensor

    def __init__(self, share: float, each: Callable[..., Tensor], context: RunContext) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise ConfigError(f"paced: expected a share above 0 and below 1 of each class, got {share}")
        self.share, self.each, self.context = share, each, context
        self.register_buffer("losses", torch.full((context.num_samples,), torch.nan))
        self.register_buffer("classes", torch.full((context.num_samples,), -1))
        self.register_buffer("weights", torch.ones(context.num_samples))
        self._noted: tuple[Tensor, Tensor, Tensor, int] | None = None

    def forward(self, pairs: Pairs, samples: Tensor, step: int) -> Pairs:
        """The pairs with their weights; notes what anchors that show `samples` (A,) cost without."""
        if pairs.y is None or pairs.refs is not None:
            raise ConfigError("paced: expected kin of the batch's rows with one another, by class: choose kin labels, or leave it out")
        with torch.no_grad():
            losses, counts = self.each(pairs.z, pairs.relation, None)
            self._noted = (samples[counts > 0], losses[counts > 0], pairs.y[counts > 0], step)
        v = self.weights[samples]
        both = v.unsqueeze(1) * v
        kin, others = (part.to(both.device) * both for part in pairs.relation.dense())
        return pairs._replace(relation=Relation(Mask(kin), Mask(others), pairs.relation.shape))

    def share_at(self, step: int) -> float:
        """Which share of every class counts from a step on."""
        done = step / max(self.context.total_steps, 1)
        if done < WARM_UP:
            return 1.0
        first = min(FIRST, self.share)
        return first + (self.share - first) * min(1.0, (done - WARM_UP) / (1 - WARM_UP))

    def after_step(self) -> None:
        """Remember the step's losses; at the end of an epoch, weigh samples anew."""
        if self._noted is None:
            return
        samples, losses, y, step = self._noted
        self._noted = None
        ids, own = torch.unique(samples, return_inverse=True)
        count = torch.bincount(own, minlength=len(ids))
        mean = torch.zeros(len(ids), dtype=losses.dtype, device=losses.device).index_add(0, own, losses) / count
        before = self.losses[ids]
        self.losses[ids] = torch.where(before.isnan(), mean, MOMENTUM * before + (1 - MOMENTUM) * mean).to(self.losses)
        self.classes[samples] = y
        if (step + 1) % self.context.steps_per_epoch == 0:
            self.weights.copy_(balanced_weights(self.losses, self.classes, self.share_at(step + 1)))
