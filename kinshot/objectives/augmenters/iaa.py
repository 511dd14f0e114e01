"""Intra-class adaptive augmentation: rows spread as far as their class does; small classes learn from their neighbors how far that is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.augmenters.copies import check_batch, check_classes, copied
from kinshot.objectives.common import at_least_float32, check_at_least, full_precision, unit
from kinshot.objectives.module import ObjectiveModule

FADING = ((0.4, 1.0), (0.6, 0.9), (0.8, 0.75), (1.0, 0.6))
"""Up to which share of training the strength is multiplied by what."""


class Spread(NamedTuple):
    """Of P classes: rows that were `seen` (P,), their mean (P, D) and their variance in every channel (P, D)."""

    seen: Tensor
    mean: Tensor
    variance: Tensor


@torch.no_grad()
def merged(spread: Spread, rows: Tensor, own: Tensor, momentum: float) -> Spread:
    """Statistics with a batch's rows added, which weigh their share of all rows so far, and no less than 1 - momentum.

    variance = (1 - w) old + w new + w (1 - w) (mean_old - mean_new)^2, exact for w = n_new / (n_new + n_old).

    Args:
        spread: of P classes, each of which has a row in the batch.
        rows: (B, D).
        own: class of each row, 0..P-1, int64 (B,).
        momentum: from 0 to 1; 1 = all rows so far count alike.
    """
    new = torch.bincount(own, minlength=len(spread.seen)).to(rows.dtype)
    mean = torch.zeros_like(spread.mean, dtype=rows.dtype).index_add(0, own, rows) / new.unsqueeze(1)
    variance = torch.zeros_like(mean).index_add(0, own, (rows - mean[own]).square()) / new.unsqueeze(1)
    share = new / (new + spread.seen)
    w = torch.where(spread.seen > 0, share.clamp(min=1 - momentum), 1).unsqueeze(1)
    apart = w * (1 - w) * (spread.mean - mean).square()
    both = Spread(spread.seen + new, (1 - w) * spread.mean + w * mean, (1 - w) * spread.variance + w * variance + apart)
    return Spread(*(after.to(before) for after, before in zip(both, spread, strict=True)))


@torch.no_grad()
def corrected_variance(
    which: Tensor,
    spread: Spread,
    sizes: Tensor,
    *,
    neighbors: int = 25,
    few: int = 40,
    beta: float = 0.1,
    gamma: float = 0.1,
) -> Tensor:
    """Variances (P, D) of some classes, those of few samples moved towards that of their neighbors and of all classes.

    (1 - a) S + a ((1 - g) S_near + g S_all) with a = 1 / (1 + log(1 + beta (n - 1))) for n up to `few`, else 0. S_all is the mean of all
    classes, weighted by n. S_near is that of the classes whose squared means are nearest, weighted by n exp(-(Dm^2 + Dc^2) / 2), where Dm
    and Dc are the distances of squared means and of variances, each brought to 0..1 over a class's others.

    Paper: Fu, Mao, Hu, Liu, Zhang 2022, arXiv 2211.16264. The released code does not call its correction, and brings distances to 0..1
    together with the 1e12 that stands there for a class's own, which makes all of them 0.

    Args:
        which: classes to correct, int64 (P,).
        spread: statistics of all classes (C,); those never seen are nobody's neighbors.
        sizes: n, samples of each class (C,), which trust takes for 1 where it is less.
        neighbors: K, at most so many.
        few: classes of more samples stay as they are.
        beta: how fast trust in a class's own variance grows.
        gamma: g, share of the mean of all classes.
    """
    there = spread.seen > 0
    weight = sizes.to(spread.variance) * there
    everywhere = (weight.unsqueeze(1) * spread.variance).sum(dim=0) / weight.sum().clamp(min=1e-12)
    others = there & (torch.arange(len(there), device=there.device) != which.unsqueeze(1))
    squares = spread.mean.square()
    by_mean, by_variance = (_to_unit(torch.cdist(x[which], x), others) for x in (squares, spread.variance))
    near = by_mean.masked_fill(~others, torch.inf).argsort(dim=1, stable=True)[:, :neighbors]
    closeness = torch.exp(-(by_mean.square() + by_variance.square()) / 2) * weight * others
    closeness = closeness.gather(1, near)
    mass = closeness.sum(dim=1, keepdim=True)
    around = torch.bmm((closeness / mass.clamp(min=1e-12)).unsqueeze(1), spread.variance[near]).squeeze(1)
    around = torch.where(mass > 0, around, everywhere)
    n = sizes[which].to(spread.variance).clamp(min=1).unsqueeze(1)
    a = torch.where(n <= few, 1 / (1 + torch.log1p(beta * (n - 1))), 0)
    return (1 - a) * spread.variance[which] + a * ((1 - gamma) * around + gamma * everywhere)


def _to_unit(values: Tensor, among: Tensor) -> Tensor:
    """Each row's values (P, C) brought to 0..1 over some of its columns."""
    low = values.masked_fill(~among, torch.inf).amin(dim=1, keepdim=True)
    high = values.masked_fill(~among, -torch.inf).amax(dim=1, keepdim=True)
    return torch.where(among & (high > low), (values - low) / torch.where(high > low, high - low, 1), 0)


@AUGMENTERS.register("iaa", classes=True)
class Iaa(ObjectiveModule):
    """Copies of rows drawn from a Gaussian as wide as their class in every channel; they are references, and no anchors.

    Paper: Fu, Mao, Hu, Liu, Zhang 2022, arXiv 2211.16264 (IAA).
    Departure: there statistics are those of a pass over the training set every few epochs; here those of the steps so far, of which old
        ones fade. The correction is the paper's, see `corrected_variance`.

    Rows of the batch alone are anchors; a copy is kin and other as its row is, and neither to its row. Rows of unknown class have none.

    Args:
        dim: of embeddings.
        classes: how many there are.
        context: what is known of the run.
        copies: of each row, at least 1.
        strength: factor on variances, from 0; it fades to 0.9, 0.75 and 0.6 of it at 40, 60 and 80 % of training.
        start: share of training before which there are no copies, from 0 to 1.
        momentum: of the statistics, from 0 to 1: how much of them a step keeps at least.
        neighbors: classes that correct a small one, from 0; 0 = no correction.
        few: samples up to which a class is small.
        beta: how fast trust in a class's own variance grows with its size, from 0.
        gamma: share of the mean of all classes in a correction, from 0 to 1.
        normalize: scales all rows to length 1 afterwards. Statistics and copies are of rows as they are.

    Raises:
        ConfigError: a setting out of range, a kin that names no classes, or shapes that do not fit together.

    >>> context = kinshot.RunContext(num_samples=4, batch_size=4, steps_per_epoch=1, total_steps=10, seed=0)
    >>> z, y = torch.randn(4, 8), torch.tensor([0, 0, 1, -1])
    >>> add = kinshot.augmenters.iaa(8, 2, context)
    >>> [len(add(z, kinshot.kin.labels(y), y, step)[0]) for step in (0, 9)]
    [4, 13]
    """

    seen: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext,
        *,
        copies: int = 3,
        strength: float = 0.7,
        start: float = 0.3,
        momentum: float = 0.9,
        neighbors: int = 25,
        few: int = 40,
        beta: float = 0.1,
        gamma: float = 0.1,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        check_classes("iaa", classes)
        check_at_least(1, copies=copies)
        check_at_least(0, strength=strength, neighbors=neighbors, few=few, beta=beta)
        for name, value in (("start", start), ("momentum", momentum), ("gamma", gamma)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}: expected a share from 0 to 1, got {value}")
        self.copies, self.strength, self.start, self.momentum, self.normalize = copies, strength, start, momentum, normalize
        self.neighbors, self.few, self.beta, self.gamma = neighbors, few, beta, gamma
        self.context = context
        self.register_buffer("seen", torch.zeros(classes))
        self.register_buffer("mean", torch.zeros(classes, dim))
        self.register_buffer("variance", torch.zeros(classes, dim))
        self._noted: tuple[Tensor, Spread] | None = None

    @property
    def spread(self) -> Spread:
        """What is known of all classes."""
        return Spread(self.seen, self.mean, self.variance)

    def forward(
        self, z: Tensor, relation: Relation, y: Tensor | None, step: int = 0, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Relation, Tensor]:
        """Rows (A + S, D), their relation and classes, at a step of the run; draws are the generator's (None = that of torch)."""
        y = check_batch("iaa", z, relation, y)
        with full_precision(z):
            rows = at_least_float32(z)
            known = (y >= 0).nonzero().squeeze(1)
            present, own = torch.unique(y[known], return_inverse=True)
            before = Spread(*(part[present] for part in self.spread))
            self._noted = (present, merged(before, rows[known].detach(), own, self.momentum))
            parents = (known if step >= self.start * self.context.total_steps else known[:0]).repeat(self.copies)
            if len(parents):
                deviation = (self.strength_at(step) * self.variance_of(present, step)).sqrt()[own].repeat(self.copies, 1)
                noise = torch.randn(deviation.shape, generator=generator).to(rows)
                rows = torch.cat([rows, rows[parents] + deviation.to(rows) * noise])
        return unit(rows) if self.normalize else rows, copied(relation, parents, anchors=False), torch.cat([y, y[parents]])

    def strength_at(self, step: int) -> float:
        """Factor on variances at a step of the run."""
        done = step / max(self.context.total_steps, 1)
        return self.strength * next((share for until, share in FADING if done < until), FADING[-1][1])

    def variance_of(self, which: Tensor, step: int) -> Tensor:
        """Variances (P, D) of some classes, corrected; a class is as large as the epochs so far have shown on average."""
        if self.neighbors == 0:
            return self.variance[which]
        sizes = self.seen / max(1.0, step / max(self.context.steps_per_epoch, 1))
        return corrected_variance(which, self.spread, sizes, neighbors=self.neighbors, few=self.few, beta=self.beta, gamma=self.gamma)

    def after_step(self) -> None:
        """Keep the statistics of the step's classes."""
        if self._noted is not None:
            present, spread = self._noted
            self.seen[present], self.mean[present], self.variance[present] = spread
            self._noted = None
