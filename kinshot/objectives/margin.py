"""Margin loss: kin nearer than a boundary, others beyond it, and where the boundary lies is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    Normalize,
    Reduction,
    at_least_float32,
    check_above,
    check_at_least,
    check_choice,
    distances,
    full_precision,
    narrowed,
    prepare,
    reduce_units,
    side_by_side,
)
from kinshot.objectives.module import ObjectiveModule


def margin_loss(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    boundary: Tensor,
    margin: float = 0.2,
    nu: float = 0.0,
    reduction: Reduction = "valid",
    normalize: Normalize = True,
) -> Tensor:
    """relu(d - b + m) of kin and relu(b - d + m) of others, over pairs, with nu b of each kin beside it.

    Paper: Wu, Manmatha, Smola, Krahenbuhl 2017, arXiv 1706.07567.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references; weights multiply costs, so that an other that was drawn
            twice counts twice.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        boundary: b, of every anchor (A,), or one for all, 0-dim.
        margin: m, above 0.
        nu: what a large boundary costs, from 0; it is divided by what the pairs are divided by.
        reduction: "valid" over the pairs that cost something, as in the paper, "mean" over all pairs, "sum", "none": each anchor's mean
            (A,), or "each", see `common.reduce_units`.
        normalize: scales rows to length 1.

    Raises:
        ConfigError: a number out of range, or shapes that do not fit together.
    """
    check_above("margin", margin)
    check_at_least(0, nu=nu)
    if boundary.dim() > 1 or (boundary.dim() == 1 and len(boundary) != len(z)):
        raise ConfigError(f"boundary: expected one for each of {len(z)} anchors, or one for all, got {tuple(boundary.shape)}")
    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        d, kin, others = side_by_side(anchors, narrowed(sets), distances)
        b = at_least_float32(boundary).to(d.dtype).expand(len(d)).unsqueeze(1)
        pull, push = F.relu(d - b + margin), F.relu(b - d + margin)
        total = (pull * kin + push * others + nu * b * kin).sum(dim=1)
        active = (kin * (pull > 0) + others * (push > 0)).sum(dim=1)
        return reduce_units(total, (kin + others).sum(dim=1), active, reduction)


@OBJECTIVES.register("margin", takes="relation")
class Margin(ObjectiveModule):
    """Kin nearer than a boundary by a margin and others beyond it by one; the boundary is learned: one for all, or one for each class.

    Paper: Wu, Manmatha, Smola, Krahenbuhl 2017, arXiv 1706.07567 (with the miner `distance_weighted`).
    Departure: the paper has a boundary of each image, too.

    Args:
        dim: of embeddings.
        classes: how many there are, 0 where the kin names none.
        context: what is known of the run; plays no part, and may be left out.
        margin: m, how far from the boundary pairs are wanted; above 0.
        beta: b, where the boundary begins; above 0.
        boundary: "global" learns one, "class" one for the class of each anchor, "fixed" none. An anchor of unknown class keeps `beta`.
        nu: what a large boundary costs, for each kin; from 0.
        boundary_lr: share of the learning rate that boundaries take, above 0; the authors' is far above that of their network.
        over: the pairs that the loss is averaged over: "active" ones, which cost something, or "all".
        normalize: scales rows to length 1.

    Raises:
        ConfigError: a setting out of range, boundaries of classes where the kin names none, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> loss = kinshot.objectives.margin(2, 2)
    >>> round(loss(z, kinshot.kin.labels(y)).item(), 3)
    0.506
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        margin: float = 0.2,
        beta: float = 1.2,
        boundary: Literal["global", "class", "fixed"] = "global",
        nu: float = 0.0,
        boundary_lr: float = 1.0,
        over: Literal["active", "all"] = "active",
        normalize: bool = True,
    ) -> None:
        super().__init__()
        check_above("margin", margin)
        check_above("beta", beta)
        check_above("boundary_lr", boundary_lr)
        check_at_least(0, nu=nu)
        check_choice("boundary", boundary, ("global", "class", "fixed"))
        check_choice("over", over, ("active", "all"))
        if boundary == "class" and not classes:
            raise ConfigError("boundary: got class, and the kin of this term names no classes: choose global, or kin labels")
        self.margin, self.start, self.nu, self.over, self.normalize = margin, beta, nu, over, normalize
        self.lr_scale = boundary_lr
        self.by_class = boundary == "class"
        beginning = torch.full((classes,) if self.by_class else (), beta)
        self.beta = nn.Parameter(beginning, requires_grad=boundary != "fixed")

    def forward(
        self,
        z: Tensor,
        relation: Relation | Sequence[Relation],
        refs: Tensor | Sequence[Tensor] | None = None,
        y: Tensor | None = None,
        step: int = 0,
    ) -> Tensor:
        """`margin_loss` with the anchors' boundaries, by their classes y (A,); `step` plays no part."""
        reduction: Reduction = "valid" if self.over == "active" else "mean"
        return margin_loss(
            z, relation, refs, boundary=self.boundaries(y), margin=self.margin, nu=self.nu, reduction=reduction, normalize=self.normalize
        )

    def boundaries(self, y: Tensor | None) -> Tensor:
        """Those of anchors of classes y (A,), -1 unknown; or the one of all, 0-dim."""
        if not self.by_class or y is None:
            return self.beta.new_tensor(self.start) if self.by_class else self.beta
        if len(y) and int(y.max()) >= len(self.beta):
            raise ConfigError(f"margin: expected classes below {len(self.beta)}, got {int(y.max())}")
        return torch.where(y >= 0, self.beta[y.clamp(min=0)], self.start)
