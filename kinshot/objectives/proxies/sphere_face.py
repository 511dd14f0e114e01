"""SphereFace: the angle with the own class counts several times, at first a little and then in full."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, check_at_least, full_precision
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.directions import along
from kinshot.objectives.proxies.rows import ProxyRows, checked, of_class, share, with_own


def annealed(step: int, *, first: float = 1000.0, last: float = 5.0, decay: float = 0.12, power: float = 1.0) -> float:
    """The weight of the plain cosine at a step of a run: max(last, first * (1 + decay * step) ** -power)."""
    return max(last, first * (1 + decay * step) ** -power)


def multiplied_angle(cosine: Tensor, margin: int) -> Tensor:
    """psi(t) = (-1)^k cos(m t) - 2 k for t in [k pi / m, (k + 1) pi / m], of cos t: it falls all the way from 1 to 1 - 2 m.

    Args:
        cosine: of any shape, in [-1, 1] but for rounding.
        margin: m, at least 1; 1 gives the cosine.
    """
    # cos(m t) is a polynomial of cos t, whose gradient is finite where that of an arc cosine is not
    before, now = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, now = now, 2 * cosine * now - before
    piece = (cosine.detach().clamp(-1, 1).acos() * (margin / math.pi)).floor().clamp(max=margin - 1)
    return (1 - 2 * (piece % 2)) * now - 2 * piece


def sphere_face_logits(
    z: Tensor, weight: Tensor, y: Tensor | None = None, *, margin: int = 4, scale: float = 1.0, annealing: float = 0.0
) -> Tensor:
    """scale * |z_i| * cos t_ic, (B, C), and of the own class scale * |z_i| * (annealing * cos t + psi(t)) / (annealing + 1).

    Args:
        z: (B, D); its length stays in the logits.
        weight: (C, D), of which only directions count.
        y: int64 (B,), -1 = unknown, whose rows have no margin; None = all.
        margin: m of `multiplied_angle`, at least 1.
        scale: what all is multiplied by, above 0.
        annealing: weight of the plain cosine, from 0, see `annealed`; 0 = the margin in full.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without a row.
    """
    _check(margin, scale)
    check_at_least(0, annealing=annealing)
    z, weight = checked("sphere_face", z, weight, y)
    with full_precision(z):
        values = along(z, weight)
        if y is not None:
            length = torch.linalg.vector_norm(z, dim=1)
            cosine = of_class(values, y) / torch.where(length > 0, length, 1)
            values = with_own(values, y, length * (annealing * cosine + multiplied_angle(cosine, margin)) / (1 + annealing))
        return scale * values


def sphere_face_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    margin: int = 4,
    scale: float = 1.0,
    annealing: float = 0.0,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """Cross-entropy of `sphere_face_logits`, over embeddings as `reduction` says, see `common.reduce`; a row of class -1 costs 0.

    Paper: Liu, Wen, Yu, Li, Raj, Song 2017, arXiv 1704.08063.
    """
    logits = sphere_face_logits(z, weight, y, margin=margin, scale=scale, annealing=annealing)
    return cross_entropy(logits, y, reduction=reduction)


def _check(margin: int, scale: float) -> None:
    check_at_least(1, margin=margin)
    check_above("scale", scale)


@OBJECTIVES.register("sphere_face", takes="proxies")
class SphereFace(ObjectiveModule):
    """Cross-entropy with unit rows of classes, where the angle with the own class is multiplied; the margin comes in as a run goes on.

    Paper: Liu, Wen, Yu, Li, Raj, Song 2017, arXiv 1704.08063 (A-Softmax).

    At step t the own class's cosine is (a cos + psi) / (a + 1) with a = max(last, first * (1 + decay * t) ** -power): from a margin of 4
    at once few runs recover. `first=0 last=0` does without.

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        margin: what the angle is multiplied by, at least 1.
        scale: what logits are multiplied by, above 0.
        first: a at step 0, from 0.
        last: below which a does not fall, from 0.
        decay: how fast a falls, from 0.
        power: how fast a falls in the end, from 0.
        proxy_lr: share of the learning rate that the rows take, above 0.
        reduction: over embeddings: "mean" over all, "valid" over those of known class, "sum", "none" or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.sphere_face(2, 2)
    >>> loss.rows.imprint_(torch.eye(2), torch.tensor([0, 1]))  # rows are learned, and may be written
    >>> [round(loss(z, y, step).item(), 3) for step in (0, 100, 10000)]
    [0.371, 0.375, 0.428]
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        margin: int = 4,
        scale: float = 1.0,
        first: float = 1000.0,
        last: float = 5.0,
        decay: float = 0.12,
        power: float = 1.0,
        proxy_lr: float = 1.0,
        reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    ) -> None:
        super().__init__()
        _check(margin, scale)
        check_at_least(0, first=first, last=last, decay=decay, power=power)
        self.margin, self.scale = margin, scale
        self.first, self.last, self.decay, self.power = first, last, decay, power
        self.lr_scale, self.reduction = share(proxy_lr), reduction
        self.rows = ProxyRows(dim, classes)

    def annealing(self, step: int) -> float:
        """The weight of the plain cosine at a step."""
        return annealed(step, first=self.first, last=self.last, decay=self.decay, power=self.power)

    def logits(self, z: Tensor, y: Tensor | None = None, annealing: float = 0.0) -> Tensor:
        """Products with unit rows (B, C) of embeddings (B, D); with classes (B,) those of the margin, in full where `annealing` is 0."""
        return sphere_face_logits(z, self.rows.weight, y, margin=self.margin, scale=self.scale, annealing=annealing)

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss at a step of embeddings (B, D) of classes (B,)."""
        return cross_entropy(self.logits(z, y, self.annealing(step)), y, reduction=self.reduction)
