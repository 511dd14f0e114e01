"""Triplets within and across modalities: an anchor's hardest kin and others of its own modality and of the other one."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin.constructors import labels as by_labels
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    at_least_float32,
    check_above,
    check_at_least,
    check_choice,
    distances,
    full_precision,
    unit,
)
from kinshot.objectives.module import ObjectiveModule

MODES = ("weighted", "all", "within", "hybrid", "across", "basic", "released")
Mode = Literal["weighted", "all", "within", "hybrid", "across", "basic", "released"]


class Gaps(NamedTuple):
    """How much farther each anchor's hardest kin are than its nearest others: (A,) each, and which of them there are, bool (A,)."""

    gap: Tensor
    exists: Tensor


def hardest(d: Tensor, kin: Tensor, others: Tensor) -> Gaps:
    """Of distances (A, A), by bool kin and others: the largest to kin minus the smallest to others; 0 where one of both is missing."""
    exists = kin.any(dim=1) & others.any(dim=1)
    if d.shape[1] == 0:
        return Gaps(d.sum(dim=1), exists)
    far, near = d.masked_fill(~kin, -1).amax(dim=1), d.masked_fill(~others, torch.finfo(d.dtype).max / 4).amin(dim=1)
    return Gaps(torch.where(exists, far - near, 0), exists)


def modality_triplet_loss(
    z: Tensor,
    within: Relation,
    across: Relation,
    *,
    mode: Mode = "weighted",
    margin: float = 0.2,
    scale: float = 20.0,
    floor: float = 0.1,
    normalize: bool = True,
) -> Tensor:
    """Triplets (w+, w-), (x+, w-) and (x+, x-) of each anchor's hardest kin and others within its modality (w) and across (x).

    * "within", "hybrid", "across": the mean of relu(t) of one of them, t = d+ - d- + margin; "all": of all of them together;
    * "basic": the hardest of any modality, batch hard;
    * "weighted": sum_c w_c mean softplus(scale t_c) / scale, c the three kinds of triplets, where w_c = mean_c(g) / max(g_c, floor) makes
      their gradients alike, g_c = mean sigmoid(scale t_c), without gradient;
    * "released": sum_c w_c * mean_c(l_c) with gradient through the weights, which is what the authors' code computes by the shapes (3,)
      and (3, 1). Its names of the modes within and basic are exchanged.

    Means are over the anchors that have such a triplet; kinds that no anchor has play no part.

    Paper: Huang, Sun, Han, Gao, Sang 2021, arXiv 2112.07966 (MATHM).

    Args:
        z: (A, D).
        within: kin and others of each row's own modality, (A, A).
        across: those of other modalities, (A, A).
        mode: see above.
        margin: from 0.
        scale: how hard the soft hinge is, above 0.
        floor: of g_c, above 0.
        normalize: scales rows to length 1.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    check_choice("mode", mode, MODES)
    check_at_least(0, margin=margin)
    check_above("scale", scale)
    check_above("floor", floor)
    if z.dim() != 2 or within.shape != (len(z), len(z)) or across.shape != within.shape:
        raise ConfigError(f"modality_triplet: expected (A, D) and relations (A, A), got {tuple(z.shape)}, {within.shape}, {across.shape}")
    with full_precision(z):
        rows = unit(z) if normalize else at_least_float32(z)
        d = distances(rows, rows)
        w, v = ([part.to(z.device) > 0 for part in relation.dense()] for relation in (within, across))
        kinds = {"within": (w[0], w[1]), "hybrid": (v[0], w[1]), "across": (v[0], v[1])}
        if mode == "basic":
            kinds = {"basic": (w[0] | v[0], w[1] | v[1])}
        elif mode in kinds:
            kinds = {mode: kinds[mode]}
        gaps = [hardest(d, *sides) for sides in kinds.values()]
        t, exists = torch.stack([one.gap for one in gaps]) + margin, torch.stack([one.exists for one in gaps])
        if mode not in ("weighted", "released"):
            return torch.where(exists, F.relu(t), 0).sum() / exists.sum().clamp(min=1)
        return _balanced(t, exists, scale, floor, released=mode == "released")


def _balanced(t: Tensor, exists: Tensor, scale: float, floor: float, *, released: bool) -> Tensor:
    """The kinds' soft hinges of t (3, A), each weighed by how much smaller its gradient is than the mean."""
    count, some = exists.sum(dim=1), exists.any(dim=1)
    losses, slopes = (
        torch.where(exists, values, 0).sum(dim=1) / count.clamp(min=1) for values in (F.softplus(scale * t) / scale, (scale * t).sigmoid())
    )
    there = some.sum().clamp(min=1)
    weights = torch.where(some, (slopes.sum() / there) / slopes.clamp(min=floor), 0)
    return weights.sum() * (losses.sum() / there) if released else (weights.detach() * losses).sum()


@OBJECTIVES.register("modality_triplet", takes="relation")
class ModalityTriplet(ObjectiveModule):
    """Triplets of the hardest kin and others within an anchor's modality and across, weighed so that their gradients are alike.

    Paper: Huang, Sun, Han, Gao, Sang 2021, arXiv 2112.07966 (MATHM).

    The relation says who is kin and other within a modality, the classes who is across: `kin: {name: labels, by: modality, positives:
    same, negatives: same}`. Take no miner, it would turn pairs within a modality into pairs across.

    Args:
        dim: plays no part.
        classes: plays no part.
        context: what is known of the run; plays no part, and may be left out.
        mode: "weighted", "all", "within", "hybrid", "across", "basic" or "released", see `modality_triplet_loss`.
        margin: from 0.
        scale: how hard the soft hinge of "weighted" and "released" is; above 0.
        floor: least gradient that a kind of triplets is weighed by; above 0.
        normalize: scales rows to length 1.

    Raises:
        ConfigError: a setting out of range, references, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> within = kinshot.kin.grouped(kinshot.kin.labels(y), torch.tensor([0, 1, 0, 1]), positives="same", negatives="same")
    >>> loss = kinshot.objectives.modality_triplet(2, 2)
    >>> round(loss(z, within, y=y).item(), 4)
    0.0032
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        mode: Literal["weighted", "all", "within", "hybrid", "across", "basic", "released"] = "weighted",
        margin: float = 0.2,
        scale: float = 20.0,
        floor: float = 0.1,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        check_choice("mode", mode, MODES)
        check_at_least(0, margin=margin)
        check_above("scale", scale)
        check_above("floor", floor)
        self.mode: Mode = mode
        self.margin, self.scale, self.floor, self.normalize = margin, scale, floor, normalize

    def forward(self, z: Tensor, relation: Relation, refs: None = None, y: Tensor | None = None, step: int = 0) -> Tensor:
        """`modality_triplet_loss` of rows (A, D), pairs within modalities and classes y (A,); `step` plays no part."""
        if refs is not None or relation.shape != (len(z), len(z)) or (y is not None and y.shape != z.shape[:1]):
            got = f"{tuple(z.shape)} and {relation.shape}{'' if refs is None else ' with references'}"
            raise ConfigError(f"modality_triplet: expected rows (A, D), the relation (A, A) of the batch alone and classes (A,), got {got}")
        numbers = {"margin": self.margin, "scale": self.scale, "floor": self.floor}
        return modality_triplet_loss(z, relation, _rest(relation, y), mode=self.mode, normalize=self.normalize, **numbers)


def _rest(relation: Relation, y: Tensor | None) -> Relation:
    """Kin and others by class, of whom the relation says nothing."""
    if y is None:
        return Relation(None, None, relation.shape)
    return by_labels(y).without((relation.dense()[0] > 0) | (relation.dense()[1] > 0))
