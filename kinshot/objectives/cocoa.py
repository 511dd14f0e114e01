"""COCOA: kin of an instant attract in proportion to how far apart they are, windows of one modality repel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    ABSENT,
    Sets,
    by_chunks,
    check_above,
    check_at_least,
    check_choice,
    full_precision,
    prepare,
    products,
    reduce,
    side_by_side,
)

# exp(2 / t) of opposite kin leaves the range of float32 below 0.0226
_COLDEST = 0.025


@OBJECTIVES.register("cocoa", takes="relation")
def cocoa(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    form: Literal["sum", "ratio"] = "sum",
    temperature: float = 0.5,
    alpha: float = 1.0,
    lam: float = 1.0,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    chunk: int | None = None,
) -> Tensor:
    """Cross-modality contrast: kin are pulled together and others pushed apart, each by a term of its own.

    With s the cosines, t the temperature, and for each anchor the mean over its kin and over what is told apart from it:

    * `sum`: alpha * mean_kin exp((1 - s) / t) + lam * mean_others exp(s / t);
    * `ratio`: -log(p / (p + n)) with p = sum_kin exp(s / t) and n = mean_others exp(s / t); alpha and lam play no part.

    Of the relation `across_modalities(..., negatives="own")` kin are the other modalities of an instant, and what is told apart are other
    instants of the same modality, as in the paper. Sums of exponentials are taken as logarithms. An anchor without kin costs 0 and has
    gradient 0: a window of which one modality alone is there.

    Paper: Deldari, Xue, Saeed, Smith, Salim 2022, arXiv 2208.00467. `sum` is the paper's, over its batch: summed over rows of M
        modalities, with alpha / M for the paper's alpha, as that averages over modalities.
    Departures: the released code names two losses and neither is the paper's. Its `cocoa2` (alpha 1/32, lambda 3.9e-3) is `sum` with
        the anchor itself among its kin, which adds a constant and divides by M^2 in place of M (M - 1); here an anchor is no kin of
        itself. Its `cocoa` sums p and n over the modalities of an instant before it divides; in `ratio` every row has its own. Which
        weights the paper's figures have is not known to us: both are 1 here.

    Args:
        z: anchors (A, D), scaled to unit length here.
        relation: of anchors and references, or one for each set of references; positive and negative weights weigh means and sums.
        refs: (R, D), (A, R, D), or one such for each relation, scaled to unit length here; None = `z`.
        form: see above.
        temperature: t, above 0; for `sum` at least 0.025, below which exp(2 / t) is no number of float32.
        alpha: weight of kin, at least 0.
        lam: weight of what is told apart, the paper's lambda, at least 0.
        reduction: "mean" over all anchors, "valid" over those with kin, "sum", "none": (A,), or "each", see `common.reduce`.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.cocoa(z, kinshot.kin.labels(y)).item(), 3)
    2.897
    """
    check_cocoa(form, temperature, alpha, lam)

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor]:
        cosine, kin, others = side_by_side(rows, sets, products)
        valid, logs = (kin > 0).any(1), cosine / temperature
        n = _log_sum(logs, others) - _log_mass(others)
        if form == "ratio":
            return F.softplus(n - _log_sum(logs, kin)), valid
        p = _log_sum((1 - cosine) / temperature, kin) - _log_mass(kin)
        return alpha * p.exp() + lam * n.exp(), valid

    with full_precision(z):
        losses, valid = by_chunks(some, *prepare(z, relation, refs, True), chunk)
        return reduce(losses, valid, reduction)


def check_cocoa(form: str, temperature: float, alpha: float, lam: float) -> None:
    """Raises ConfigError, naming it, for a setting of `cocoa` that is out of range."""
    check_above("temperature", temperature)
    check_choice("form", form, ("sum", "ratio"))
    check_at_least(0, alpha=alpha, lam=lam)
    if form == "sum" and temperature < _COLDEST:
        raise ConfigError(f"temperature: expected at least {_COLDEST} for form=sum, got {temperature}: raise it, or take form=ratio")


def _log_sum(logs: Tensor, weights: Tensor) -> Tensor:
    """Logarithm of the weighted sum of exponentials (A,); ABSENT where nothing has weight."""
    if logs.shape[1] == 0:
        return logs.sum(1) + ABSENT
    return torch.where(weights > 0, logs + torch.where(weights > 0, weights, 1).log(), ABSENT).logsumexp(1)


def _log_mass(weights: Tensor) -> Tensor:
    mass = weights.sum(1)
    return torch.where(mass > 0, mass, 1).log()
