"""ProtoNCE: an anchor against the prototypes of one or more clusterings, each as sharp as its cluster is dense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    Reduction,
    at_least_float32,
    check_above,
    check_choice,
    classes_of,
    full_precision,
    reduce,
    unit,
    widest,
)


@torch.no_grad()
def densities(
    z: Tensor,
    centers: Tensor,
    assignment: Tensor,
    *,
    temperature: float = 0.2,
    smoothing: float = 10.0,
    clip: tuple[float, float] = (0.1, 0.9),
    spread: Literal["distance", "product"] = "distance",
) -> Tensor:
    """A temperature for each cluster (K,): small for dense clusters, with mean `temperature`.

    sum over members of || z - c || / (Z log(Z + smoothing)) for a cluster of Z members; one with fewer than two takes the
    largest; values are clipped to quantiles before scaling.

    Paper: Li, Zhou, Xiong, Hoi 2020, arXiv 2005.04966.

    Args:
        z: (N, D), normalised here.
        centers: (K, D), normalised here.
        assignment: int64 (N,), cluster of each row, -1 = none.
        temperature: mean of the result.
        smoothing: alpha of the paper.
        clip: quantiles.
        spread: "distance" as above; "product", as in MEOW's public code, has the root of z . c (0 where that is below) in its place, by
            which dense clusters get the larger temperatures.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    check_above("temperature", temperature)
    if not smoothing >= 0:
        raise ConfigError(f"smoothing: expected at least 0, got {smoothing}")
    if not 0 <= clip[0] <= clip[1] <= 1:
        raise ConfigError(f"clip: expected 0 <= low <= high <= 1, got {clip}")
    _check(z, centers, assignment)
    if len(centers) == 0:
        return z.new_zeros(0)
    with full_precision(z):
        members = assignment >= 0
        rows, own = unit(z)[members], assignment[members]
        c = unit(centers).to(rows.dtype)
        check_choice("spread", spread, ("distance", "product"))
        near = spread == "product"
        distance = (rows * c[own]).sum(1).clamp(min=0).sqrt() if near else torch.linalg.vector_norm(rows - c[own], dim=1)
        count = torch.bincount(own, minlength=len(c)).to(rows.dtype)
        # a cluster may have a million members, which float32 would add up one by one
        exact = widest(rows.device)
        total = torch.zeros(len(c), dtype=exact, device=rows.device).index_add(0, own, distance.to(exact)).to(rows.dtype)
        density = total / (count.clamp(min=1) * (count + smoothing).log())
        density = torch.where(count > 1, density, density.where(count > 1, 0).max())
        low, high = (torch.quantile(density, q) for q in clip)
        density = density.clamp(low, high)
        # every member on its center: nothing tells clusters apart
        mean = density.mean()
        return torch.where(mean > 0, temperature * density / torch.where(mean > 0, mean, 1), temperature).clamp(min=1e-6)


@OBJECTIVES.register("proto_nce", takes="relation")
def proto_nce(
    z: Tensor,
    relation: Relation,
    refs: None = None,
    *,
    temperature: float = 0.2,
    smoothing: float = 10.0,
    clip: tuple[float, float] = (0.1, 0.9),
    mean_denominator: bool = False,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool = True,
) -> Tensor:
    """Each row against the means of the batch's classes or clusters, each as sharp as its members lie dense: ProtoNCE.

    Paper: Li, Zhou, Xiong, Hoi 2020, arXiv 2005.04966 (PCL); in MEOW: Yu, Ge, Li, Zhou 2023, arXiv 2212.13847.
    Departure: there prototypes are k-means centers of the whole data set, found once an epoch; here those of the batch's rows, anew in
        every step and without gradient. `cluster_nce` and `densities` take any centers.

    Args:
        z: (N, D).
        relation: of the batch's rows, (N, N), whose kin make classes or clusters, see `common.classes_of`; a row that it says nothing
            of costs 0 and belongs to no prototype.
        refs: None: prototypes are those of the batch.
        temperature: mean of the prototypes' temperatures; above 0.
        smoothing: alpha of the paper, which evens out temperatures of small clusters; at least 0.
        clip: quantiles that temperatures are clipped to.
        mean_denominator: N times the mean over prototypes in place of the sum, as MEOW writes it.
        reduction: "mean" over all rows, "valid" over those with a prototype, "sum", "none": (N,), or "each", see `common.reduce`.
        normalize: scales rows and prototypes to length 1.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.proto_nce(z, kinshot.kin.labels(y)).item(), 3)
    0.022
    """
    y = classes_of("proto_nce", z, relation, refs)
    known = y >= 0
    with full_precision(z), torch.no_grad():
        rows = (unit(z) if normalize else at_least_float32(z))[known]
        present, own = torch.unique(y[known], return_inverse=True)
        centers = rows.new_zeros(len(present), z.shape[1]).index_add(0, own, rows)
        centers = centers / torch.bincount(own, minlength=len(present)).unsqueeze(1)
        assignment = torch.full_like(y, -1).masked_scatter(known, own)
        density = densities(z, centers, assignment, temperature=temperature, smoothing=smoothing, clip=clip)
    chosen: dict[str, Any] = {"reduction": reduction, "normalize": normalize, "mean_denominator": mean_denominator}
    return cluster_nce(z, centers, assignment, density, **chosen)


def cluster_nce(
    z: Tensor,
    centers: Tensor | Sequence[Tensor],
    assignment: Tensor | Sequence[Tensor],
    density: Tensor | Sequence[Tensor],
    *,
    reduction: Reduction = "mean",
    normalize: bool = True,
    mean_denominator: bool = False,
) -> Tensor:
    """Mean over anchors and clusterings of -log(exp(z.c_own / phi_own) / sum_k exp(z.c_k / phi_k)).

    Paper: Li, Zhou, Xiong, Hoi 2020, arXiv 2005.04966 (PCL); in MEOW: Yu, Ge, Li, Zhou 2023, arXiv 2212.13847.

    Args:
        z: anchors (A, D).
        centers: (K, D), or one for each clustering; constants unless they take gradients.
        assignment: int64 (A,), cluster of each anchor, -1 = none: costs 0; or one for each clustering.
        density: phi (K,), from `densities`; or one for each clustering.
        reduction: "mean" over all anchors, "valid" over the assigned ones, "sum", "none": (A,), means over clusterings, or "each",
            see `common.reduce`.
        normalize: scales anchors and centers to length 1.
        mean_denominator: A times the mean over clusters in place of the sum, as MEOW writes it: a constant log(A / K) more.

    Raises:
        ConfigError: shapes that do not fit together.
    """
    clusterings = [[x] if isinstance(x, Tensor) else list(x) for x in (centers, assignment, density)]
    if len({len(x) for x in clusterings}) != 1 or not clusterings[0]:
        raise ConfigError(f"cluster_nce: expected as many centers, assignments and densities, got {[len(x) for x in clusterings]}")
    with full_precision(z):
        anchors = unit(z) if normalize else at_least_float32(z)
        values = []
        for c, own, phi in zip(*clusterings, strict=True):
            _check(z, c, own)
            if phi.shape != c.shape[:1]:
                raise ConfigError(f"density: expected one for each of {len(c)} clusters, got {tuple(phi.shape)}")
            if len(c) == 0:
                values.append((anchors * 0).sum(dim=1))
                continue
            rows = unit(c) if normalize else c
            logits = anchors @ rows.to(anchors.dtype).T / phi.to(anchors.dtype)
            losses = F.cross_entropy(logits, own.clamp(min=0), reduction="none")
            losses = losses + torch.log(losses.new_tensor(len(z) / len(c))) if mean_denominator else losses
            values.append(torch.where(own >= 0, losses, 0))
        assigned = torch.stack([own >= 0 for own in clusterings[1]])
        return reduce(torch.stack(values).mean(dim=0), assigned.any(dim=0), reduction)


def _check(z: Tensor, centers: Tensor, assignment: Tensor) -> None:
    if z.dim() != 2 or centers.dim() != 2 or z.shape[1] != centers.shape[1] or assignment.shape != z.shape[:1]:
        raise ConfigError(
            f"clusters: expected rows (A, D), centers (K, D) and a cluster for each row, "
            f"got {tuple(z.shape)}, {tuple(centers.shape)} and {tuple(assignment.shape)}"
        )
