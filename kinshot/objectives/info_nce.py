"""InfoNCE over relations: an anchor's kin against what is told apart from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.constructors import negatives as all_negative
from kinshot.kin.constructors import pairs
from kinshot.kin.parts import Block, Listed, Mask, Part
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.block import block_logsumexp
from kinshot.objectives.common import (
    ABSENT,
    Normalize,
    Sets,
    by_chunks,
    check_above,
    check_choice,
    dense_weights,
    full_precision,
    gathered,
    is_dense,
    prepare,
    products,
    reduce,
)
from kinshot.objectives.indexed import indexed_similarity

Form = Literal["out", "in"]
Denominator = Literal["all", "own", "negatives"]
Margin = Callable[[Tensor], Tensor]


@OBJECTIVES.register("info_nce", takes="relation")
def info_nce(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    temperature: float = 0.1,
    base_temperature: float | None = None,
    form: Literal["out", "in"] = "out",
    denominator: Literal["all", "own", "negatives"] = "all",
    positive_margin: Margin | None = None,
    anchor_weights: Tensor | None = None,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = True,
    chunk: int | None = None,
) -> Tensor:
    """How badly each anchor's positives stand out from its negatives: -log(exp(s_p / t) / sum_a exp(s_a / t)), averaged over positives.

    Positive weights weigh the average; negative weights multiply terms of the sum. An anchor without positives, and with
    `denominator="negatives"` one without negatives, costs 0 and has gradient 0.

    Paper: van den Oord, Li, Vinyals 2018, arXiv 1807.03748; many positives: Khosla et al. 2020, arXiv 2004.11362.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references; sets are never joined into one tensor.
        refs: (R, D), or (A, R, D) with references of each anchor's own, or one such for each relation; None = `z`.
        temperature: t, divides every similarity; above 0.
        base_temperature: t_b of the paper's code, which multiplies the loss by t / t_b; None = no such factor.
        form: "out" averages logarithms over positives (L_out of the paper), "in" takes the logarithm of their average (L_in).
        denominator: what a positive is compared with: "all" positives and negatives; "own" itself and the negatives;
            "negatives" alone (decoupled, as in arXiv 2110.06848 and 2212.13847).
        positive_margin: changes positive similarities, before the temperature.
        anchor_weights: optional (A,) factors of the anchors' losses; the mean stays one over A.
        reduction: "mean" over all anchors, "valid" over those that count, "sum", "none": (A,), or "each", see `common.reduce`.
        normalize: cosines of anchors and references; "anchors" takes the references as they are (unit rows); False dot products.
        chunk: anchors at a time, for less memory at the price of computing twice; the result is the same.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.info_nce(z, kinshot.kin.labels(y)).item(), 3)
    0.064
    """
    check_above("temperature", temperature)
    check_choice("form", form, ("out", "in"))
    check_choice("denominator", denominator, ("all", "own", "negatives"))
    if base_temperature is not None:
        check_above("base_temperature", base_temperature)
    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)

        def some(rows: Tensor, part: Sets) -> tuple[Tensor, Tensor]:
            return _losses(rows, part, temperature, form, denominator, positive_margin)

        losses, valid = by_chunks(some, anchors, sets, chunk)
        if base_temperature is not None:
            losses = losses * (temperature / base_temperature)
        if anchor_weights is not None:
            losses = losses * anchor_weights
        return reduce(losses, valid, reduction)


def key_info_nce(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float, *, normalize: Normalize = True) -> Tensor:
    """Mean InfoNCE loss of one positive row each against shared negatives, or a set for each query, by cosine.

    Paper: van den Oord, Li, Vinyals 2018, arXiv 1807.03748.

    Args:
        query: (B, D).
        positive: (B, D), row b is the positive of query b.
        negatives: (L, D) shared by all queries, or (B, M, D) with a set for each query.
        temperature: divides every similarity; above 0.
        normalize: "anchors" takes positives and negatives as they are: for unit rows, such as a queue's.

    Raises:
        ConfigError: the temperature is not above 0, or shapes that do not fit together.
    """
    count = len(query)
    relations = [pairs(count, query.device), all_negative(count, negatives.shape[-2])]
    return info_nce(query, relations, [positive, negatives], temperature=temperature, normalize=normalize)


@dataclass(frozen=True)
class _Terms:
    """Logits (A, K) of one part, with `weights` (A, K) bool or float, None = all 1; logits where the weight is 0 mean nothing."""

    logits: Tensor
    weights: Tensor | None

    def lse(self, weighted: bool) -> Tensor:
        """Logarithm of the sum of exponentials (A,), optionally times weights."""
        logits, weights = self.logits, self.weights
        if logits.shape[1] == 0:
            return logits.new_full((len(logits),), ABSENT)
        if weights is not None:
            if weighted and weights.dtype != torch.bool:
                logits = logits + torch.where(weights > 0, weights, 1).log()
            logits = logits.masked_fill(weights == 0, ABSENT)
        return logits.logsumexp(dim=1)

    def mass(self) -> Tensor:
        """Sum of the weights (A,)."""
        if self.weights is None:
            return self.logits.new_full((len(self.logits),), self.logits.shape[1])
        return self.weights.sum(dim=1, dtype=self.logits.dtype)

    def total(self, values: Tensor) -> Tensor:
        """Weighted sum (A,) of `values` (A, K)."""
        if self.weights is None:
            return values.sum(dim=1)
        # not a product with 0: a similarity that nobody asked for may be infinite
        return torch.where(self.weights > 0, values * self.weights, 0).sum(dim=1)


def _losses(
    z: Tensor, sets: Sets, temperature: float, form: Form, denominator: Denominator, margin: Margin | None
) -> tuple[Tensor, Tensor]:
    positives: list[_Terms] = []
    against: list[Tensor] = []
    for relation, refs in sets:
        positive, below = _terms(z, relation, refs, temperature, denominator == "all", margin)
        against += below
        positives += [] if positive is None or positive.logits.shape[1] == 0 else [positive]
    if not positives:
        return (z * 0).sum(dim=1), torch.zeros(len(z), dtype=torch.bool, device=z.device)
    sum_log = _join(against, z)
    mass = sum((p.mass() for p in positives), z.new_zeros(len(z)))
    valid = mass > 0
    if denominator == "negatives":
        valid = valid & (sum_log.detach() > ABSENT / 2)
    if denominator == "own":
        positives = [_Terms(-F.softplus(sum_log.unsqueeze(1) - p.logits), p.weights) for p in positives]
    base = 0 if denominator == "own" else sum_log
    safe = torch.where(mass > 0, mass, 1)
    if form == "in":
        return base - _join([p.lse(weighted=True) for p in positives], z) + safe.log(), valid
    return base - sum((p.total(p.logits) for p in positives), z.new_zeros(len(z))) / safe, valid


def _join(pieces: list[Tensor], z: Tensor) -> Tensor:
    """Logarithm of the sum of exponentials over pieces (A,); ABSENT where there are none."""
    if not pieces:
        return z.new_full((len(z),), ABSENT)
    joined = pieces[0]
    for piece in pieces[1:]:
        joined = torch.logaddexp(joined, piece)
    return joined


def _terms(
    z: Tensor, relation: Relation, refs: Tensor, temperature: float, with_positives: bool, margin: Margin | None
) -> tuple[_Terms | None, list[Tensor]]:
    """Positive terms of one set, and what it adds to the denominator: logarithms of sums (A,)."""
    scaled, positive, negative = z / temperature, relation.positive, relation.negative
    whole = _is_whole(positive, negative, refs)
    weighed = _is_weighed(positive, negative, refs)
    full = None if whole or weighed or not (is_dense(positive) or is_dense(negative)) else products(scaled, refs)
    kin = None if positive is None else _positives(z, scaled, positive, refs, full, temperature, margin)
    if full is not None and kin is not None and with_positives and isinstance(positive, Mask) and isinstance(negative, Mask):
        # one pass over the matrix in place of two
        wanted, other = dense_weights(positive, full) > 0, dense_weights(negative, full)
        both = wanted | other if other.dtype == torch.bool else torch.where(wanted, 1, other)
        logits = full if margin is None else torch.where(wanted, kin.logits, full)
        return kin, [_Terms(logits, both).lse(weighted=True)]
    if whole and isinstance(negative, Block):
        below = [block_logsumexp(scaled, refs, negative.except_)]
    elif weighed and isinstance(negative, Mask):
        below = [block_logsumexp(scaled, refs, weights=negative.weights)]
    else:
        below = [] if negative is None else [_negatives(scaled, negative, refs, full)]
    if kin is not None and with_positives:
        below.append(kin.logits.squeeze(1) if kin.weights is None and kin.logits.shape[1] == 1 else kin.lse(weighted=False))
    return kin, below


def _positives(
    z: Tensor, scaled: Tensor, part: Part, refs: Tensor, full: Tensor | None, temperature: float, margin: Margin | None
) -> _Terms:
    if isinstance(part, Listed):
        terms = _listed(scaled if margin is None else z, part, refs, None if margin is not None else full)
        return terms if margin is None else _Terms(margin(terms.logits) / temperature, terms.weights)
    if full is None:
        raise ConfigError("relation: expected the products with all references for a mask or a block")
    logits = full if margin is None else margin(full * temperature) / temperature
    return _Terms(logits, dense_weights(part, full))


def _negatives(scaled: Tensor, part: Part, refs: Tensor, full: Tensor | None) -> Tensor:
    if isinstance(part, Listed):
        return _listed(scaled, part, refs, full).lse(weighted=True)
    if full is None:
        raise ConfigError("relation: expected the products with all references for a mask or a block")
    return _Terms(full, dense_weights(part, full)).lse(weighted=True)


def _is_whole(positive: Part | None, negative: Part | None, refs: Tensor) -> bool:
    """Whether negatives are a plain block and nothing else needs the products with all references."""
    if not isinstance(negative, Block) or refs.dim() != 2 or len(refs) == 0 or is_dense(positive):
        return False
    if isinstance(positive, Listed) and positive.index.shape[1] * refs.shape[1] > len(refs):
        return False
    left = negative.except_
    # a GPU would stall to tell whether an exception is absent
    return left is None or (left.device.type == "cpu" and bool((left >= 0).all()))


def _is_weighed(positive: Part | None, negative: Part | None, refs: Tensor) -> bool:
    """Whether negatives are a matrix of weights beside one positive each, so that nothing else needs the products with all references."""
    weights = negative.weights if isinstance(negative, Mask) else None
    if weights is None or weights.dtype == torch.bool or refs.dim() != 2 or len(refs) == 0:
        return False
    return isinstance(positive, Listed) and positive.index.shape[1] == 1


def _listed(z: Tensor, part: Listed, refs: Tensor, full: Tensor | None) -> _Terms:
    weights = part.present()
    if weights is not None and weights.dtype != torch.bool:
        weights = weights.to(z.dtype)
    count, dim = part.index.shape[1], z.shape[1]
    if full is not None and count * dim > full.shape[1]:
        return _Terms(full.gather(1, part.index.clamp(min=0)), weights)
    if refs.dim() == 2 and not refs.requires_grad and count > 1:
        return _Terms(indexed_similarity(z, refs, part.index.clamp(min=0)), weights)
    rows = gathered(refs, part.index)
    if count == 1:
        return _Terms((z * rows.squeeze(1)).sum(dim=1, keepdim=True), weights)
    return _Terms(torch.bmm(rows, z.unsqueeze(2)).squeeze(2), weights)
