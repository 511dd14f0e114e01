"""What all objectives share: precision, unit rows, reference sets, anchors in chunks, reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kinshot.core.errors import ConfigError, suggest
from kinshot.kin.parts import Block, Mask, Part
from kinshot.kin.relation import Relation

Reduction = Literal["mean", "valid", "sum", "none", "each"]
REDUCTIONS = ("mean", "valid", "sum", "none", "each")
Normalize: TypeAlias = bool | Literal["anchors"]
Sets: TypeAlias = list[tuple[Relation, Tensor]]

# Stands for the logarithm of 0. Finite, so that an anchor with nothing to sum over has no NaN in its gradient; beside any
# real similarity its exponential is exactly 0.
ABSENT = -1e30


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context without autocast on the tensor's device: losses are computed in float32 or better."""
    return torch.autocast(tensor.device.type, enabled=False)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or in float32 if it is of half precision."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def widest(device: torch.device) -> torch.dtype:
    """The most exact floats of a device, for sums that are taken one term after the other: `index_add` over many rows."""
    return torch.float32 if device.type == "mps" else torch.float64


def unit(rows: Tensor) -> Tensor:
    """Rows (..., D) scaled to length 1, in float32 or better."""
    return F.normalize(at_least_float32(rows), dim=-1)


def check_above(name: str, value: float, bound: float = 0) -> None:
    """Raises ConfigError unless `value` is above `bound`."""
    if not value > bound:
        raise ConfigError(f"{name}: expected a number above {bound:g}, got {value}")


def check_at_least(bound: float, **given: float) -> None:
    """Raises ConfigError, naming it, for a number that is below `bound`, or NaN."""
    for name, value in given.items():
        if not value >= bound:
            raise ConfigError(f"{name}: expected a number of at least {bound:g}, got {value}")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ConfigError unless `value` is one of the choices."""
    if value not in choices:
        raise ConfigError(f"{name}: got {value!r}: {suggest(value, choices)}")


def prepare(
    z: Tensor, relation: Relation | Sequence[Relation], refs: Tensor | Sequence[Tensor] | None, normalize: Normalize
) -> tuple[Tensor, Sets]:
    """Anchors, and each relation with its references, checked, in float32 or better and normalised as asked.

    Args:
        z: (A, D).
        relation: one, or one for each set of references.
        refs: (R, D), or (A, R, D) with a set for each anchor, or one such for each relation; None = `z` for every relation.
        normalize: True scales anchors and references to length 1, "anchors" takes the references as they are, False takes all as is.

    Raises:
        ConfigError: shapes that do not fit together.
    """
    relations = [relation] if isinstance(relation, Relation) else list(relation)
    if z.dim() != 2:
        raise ConfigError(f"z: expected embeddings (A, D), got {tuple(z.shape)}")
    anchors = unit(z) if normalize else at_least_float32(z)
    if refs is None:
        own = unit(z) if normalize == "anchors" else anchors
        sets = [(one, own) for one in relations]
    else:
        tensors = [refs] if isinstance(refs, Tensor) else list(refs)
        if len(tensors) != len(relations) or not relations:
            raise ConfigError(f"refs: expected one tensor for each of {len(relations)} relations, got {len(tensors)}")
        rows = [unit(one) if normalize is True else at_least_float32(one) for one in tensors]
        sets = [(one, r.to(anchors.dtype)) for one, r in zip(relations, rows, strict=True)]
    for one, r in sets:
        _check_shapes(anchors, one, r)
    return anchors, sets


def _check_shapes(z: Tensor, relation: Relation, refs: Tensor) -> None:
    expected = (*relation.shape[-1 if refs.dim() == 2 else 0 :], z.shape[1])
    if relation.shape[0] != len(z) or refs.dim() not in (2, 3) or tuple(refs.shape) != expected:
        raise ConfigError(
            f"relation: one of shape {relation.shape} fits anchors ({relation.shape[0]}, D) and references ({relation.shape[1]}, D), "
            f"got anchors {tuple(z.shape)} and references {tuple(refs.shape)}"
        )


def products(z: Tensor, refs: Tensor) -> Tensor:
    """Dot products (A, R) of anchors with references (R, D), or with their own (A, R, D)."""
    return z @ refs.T if refs.dim() == 2 else torch.bmm(refs, z.unsqueeze(2)).squeeze(2)


def gathered(refs: Tensor, index: Tensor) -> Tensor:
    """References (A, M, D) by int64 (A, M); of a negative index the first row."""
    index = index.clamp(min=0)
    if refs.dim() == 2:
        return refs.index_select(0, index.reshape(-1)).view(*index.shape, refs.shape[1])
    return refs.gather(1, index.unsqueeze(2).expand(-1, -1, refs.shape[2]))


def dense_weights(part: Part | None, like: Tensor) -> Tensor:
    """A part's weights as (A, R), bool or of the dtype of `like` (A, R), on its device."""
    if part is None:
        return torch.zeros_like(like, dtype=torch.bool)
    weights = part.dense(like.shape[1]).to(like.device)
    return weights if weights.dtype == torch.bool else weights.to(like.dtype)


def as_floats(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where a bool tensor is True, 0 elsewhere, of a floating type."""
    # as bytes: on a CPU bools are converted one after the other, and that takes several times as long
    return mask.view(torch.uint8).to(dtype)


def present(weights: Tensor) -> Tensor:
    """Which weights (A, R), bool or not negative, are above 0."""
    return weights if weights.dtype == torch.bool else weights > 0


def some_in_row(mask: Tensor) -> Tensor:
    """Which rows of a bool (A, R) have a True: (A,)."""
    # as `any`, in a tenth of its time on a CPU
    return mask.view(torch.uint8).amax(dim=1) > 0 if mask.shape[1] else mask.any(dim=1)


def is_dense(part: Part | None) -> bool:
    """Whether a part needs the products with all references."""
    return isinstance(part, Mask | Block)


def by_chunks(function: Callable[[Tensor, Sets], tuple[Tensor, ...]], z: Tensor, sets: Sets, chunk: int | None) -> tuple[Tensor, ...]:
    """`function` of some anchors at a time, its results (A,) put together; what it keeps for the gradient is computed again.

    Args:
        function: from anchors (a, D) and their sets to tensors (a,).
        z: (A, D).
        sets: relations with their references.
        chunk: anchors at a time; None = all, and nothing is computed twice.
    """
    if chunk is None or chunk >= len(z):
        return function(z, sets)
    if chunk < 1:
        raise ConfigError(f"chunk: expected at least 1 anchor at a time, got {chunk}")
    results = []
    for start in range(0, len(z), chunk):
        rows = slice(start, min(start + chunk, len(z)))
        part = [(r.rows(rows), x if x.dim() == 2 else x[rows]) for r, x in sets]
        results.append(checkpoint(_spread(function, part), z[rows], *(x for _, x in part), use_reentrant=False, preserve_rng_state=False))
    return tuple(torch.cat(pieces) for pieces in zip(*results, strict=True))


def _spread(function: Callable[[Tensor, Sets], tuple[Tensor, ...]], part: Sets) -> Callable[..., tuple[Tensor, ...]]:
    # checkpoint wants the tensors that take gradients as arguments
    relations = [relation for relation, _ in part]
    return lambda z, *refs: function(z, list(zip(relations, refs, strict=True)))


def reduce(losses: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """One number of the anchors' losses, or the losses themselves.

    Whatever an objective averages over, "each" gives the losses of the anchors and, beside them, how much each of these counts, so that
    weights, curricula and gauges of anchors need nothing but these two: `losses, weight = info_nce(..., reduction="each")`; an anchor
    is valid where its weight is above 0, and `(losses * weight).sum()` is what "sum" gives. For averages over anchors the weight is
    1 or 0, for averages over pairs or triplets (`reduce_units`) it is how many of these an anchor has.

    Args:
        losses: (A,).
        valid: bool (A,); the loss of the others is replaced by 0.
        reduction: "mean" over all anchors, "valid" over the valid ones (0 when there are none), "sum", "none" (A,), or "each" (2, A).
    """
    check_choice("reduction", reduction, REDUCTIONS)
    losses = torch.where(valid, losses, 0)
    if reduction == "none":
        return losses
    if reduction == "each":
        return torch.stack([losses, valid.to(losses.dtype)])
    if reduction == "mean":
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses.sum() / valid.sum().clamp(min=1)


def reduce_units(total: Tensor, mass: Tensor, active: Tensor, reduction: Reduction) -> Tensor:
    """One number where pairs or triplets are what is averaged, not anchors; or one number for each anchor.

    Args:
        total: weighted sum of each anchor's units (A,).
        mass: sum of their weights (A,).
        active: the same of the units that cost something (A,).
        reduction: "mean" over all units, "valid" over those that cost something, "sum", "none": each anchor's mean (0 without units),
            or "each": that and the mass (2, A).
    """
    check_choice("reduction", reduction, REDUCTIONS)
    if reduction in ("none", "each"):
        losses = total / torch.where(mass > 0, mass, 1)
        return losses if reduction == "none" else torch.stack([losses, mass])
    if reduction == "sum":
        return total.sum()
    over = (mass if reduction == "mean" else active).sum()
    return total.sum() / torch.where(over > 0, over, 1)


def classes_of(name: str, z: Tensor, relation: Relation, refs: Tensor | None) -> Tensor:
    """Which rows of a batch are of one class, int64 (A,), for objectives whose units are classes: a row's number is that of its first kin.

    Kin of kin should be kin, as of `labels`, `views` or clusters; of other relations a row joins the first of its kin. A row that the
    relation says nothing of is -1.

    Raises:
        ConfigError: references, or shapes that do not fit together.
    """
    if z.dim() != 2 or relation.shape != (len(z), len(z)) or refs is not None:
        got = f"{tuple(z.shape)} and {relation.shape}{'' if refs is None else ' with references'}"
        raise ConfigError(f"{name}: expected rows (A, D) and the relation (A, A) of the batch alone, got {got}")
    kin, others = (part.to(z.device) > 0 for part in relation.dense())
    known = kin.any(dim=1) | others.any(dim=1)
    member = kin | torch.eye(len(z), dtype=torch.bool, device=z.device)
    return torch.where(known, member.to(torch.uint8).argmax(dim=1) if len(z) else known.long(), -1)


def distances(z: Tensor, refs: Tensor, eps: float = 0.0) -> Tensor:
    """Euclidean distances (A, R), `|| z_a - r + eps ||`, with references (R, D), or each anchor's own (A, R, D)."""
    # the differences themselves: by way of products float32 loses small distances
    mode = "donot_use_mm_for_euclid_dist"
    if refs.dim() == 2:
        return torch.cdist(z + eps, refs, compute_mode=mode)
    return torch.cdist(z.unsqueeze(1) + eps, refs, compute_mode=mode).squeeze(1)


FEW = 1 << 22
"""Numbers of references that are gathered at most, 16 MB of float32, and the share of the references that makes it worth while."""
SHARE = 4


def narrowed(sets: Sets) -> Sets:
    """Sets in which anchors have references of their own, those alone that they are paired with: few after a miner.

    What compares all pairs of a batch then compares these. Sets in which some anchor is paired with more than a few stay as they are, and
    so do those on a GPU, which would wait for the answer.
    """
    return [_narrow(relation, refs) for relation, refs in sets]


def _narrow(relation: Relation, refs: Tensor) -> tuple[Relation, Tensor]:
    if refs.dim() != 2 or refs.device.type != "cpu" or not all(isinstance(part, Mask) for part in (relation.positive, relation.negative)):
        return relation, refs
    weights = relation.dense()
    paired = present(weights[0]) | present(weights[1])
    counts = as_floats(paired, torch.float32).sum(dim=1).long()
    most = int(counts.max()) if len(counts) else 0
    if most * SHARE > len(refs) or most * len(counts) * refs.shape[1] > FEW:
        return relation, refs
    row, column = paired.nonzero(as_tuple=True)
    place = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    index = torch.full((len(counts), most), -1).index_put_((row, place), column)
    sides = [Mask(side.gather(1, index.clamp(min=0)) * (index >= 0)) for side in weights]
    return Relation(sides[0], sides[1], (len(counts), most)), gathered(refs, index)


def log_sum(exponents: Tensor, weights: Tensor) -> Tensor:
    """log(sum_r w exp(e)) over each row of (A, R), (A,), without overflow; `ABSENT` where no weight is above 0."""
    logits = log_terms(exponents, weights)
    return torch.cat([logits.new_full((len(logits), 1), ABSENT), logits], dim=1).logsumexp(dim=1)


def log_terms(exponents: Tensor, weights: Tensor) -> Tensor:
    """log(w exp(e)) of each pair (A, R); `ABSENT` where the weight is 0."""
    return (exponents + torch.where(weights > 0, weights, 1).log()).masked_fill(weights <= 0, ABSENT)


def side_by_side(z: Tensor, sets: Sets, measure: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """A measure (a, R) of anchors and all references with positive and negative weights, sets side by side."""
    values, *sides = as_they_are(z, sets, measure)
    positive, negative = (as_floats(side, values.dtype) if side.dtype == torch.bool else side for side in sides)
    return values, positive, negative


def as_they_are(z: Tensor, sets: Sets, measure: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """`side_by_side`, but that weights stay bool where no pair of that side weighs anything but 0 or 1."""
    columns = []
    for relation, refs in sets:
        values = measure(z, refs)
        columns.append((values, dense_weights(relation.positive, values), dense_weights(relation.negative, values)))
    if len(columns) == 1:
        return columns[0]
    values, positive, negative = (torch.cat(pieces, dim=1) for pieces in zip(*columns, strict=True))
    return values, positive, negative
