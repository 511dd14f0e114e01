"""Barlow Twins: each feature of one set correlates with the same feature of the other, and with no other."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.objectives import OBJECTIVES
from kinshot.objectives.aligned import aligned
from kinshot.objectives.common import check_above, check_at_least, full_precision


@OBJECTIVES.register("barlow_twins", takes="views")
def barlow_twins(
    first: Tensor,
    second: Tensor,
    ids: Tensor | None = None,
    *,
    present: Tensor | None = None,
    redundancy: float = 5.1e-3,
    eps: float = 1e-5,
) -> Tensor:
    """The cross-correlation of two sets' features is the identity: sum_i (1 - R_ii)^2 + redundancy * sum_{i != j} R_ij^2.

    R is the mean over the present rows of products of features standardised over these rows. The two sets may be two views, or two
    modalities at the same instants, of which some are missing. Nothing is a negative; batches of about D rows are wanted.

    Paper: Zbontar, Jing, Misra, LeCun, Deny 2021, arXiv 2103.03230.

    Args:
        first: one set of rows (B, D), as they are.
        second: the other (B, D), same samples in the same order.
        ids: int64 (B,), which sample each row shows; plays no part, as no row is told from another.
        present: bool (B,), samples that both sets show; the others cost nothing. With fewer than two the loss is 0. None = all.
        redundancy: weight of what is off the diagonal, at least 0; with few features about 1 / D balances both terms.
        eps: added to variances before the root, above 0, as batch normalisation does: a feature that does not vary becomes 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> round(kinshot.objectives.barlow_twins(first, first.flip(1)).item(), 3)
    2.01
    """
    check_at_least(0, redundancy=redundancy)
    terms = barlow_twins_terms(first, second, ids, present=present, eps=eps)
    return terms["invariance"] + redundancy * terms["redundancy"]


def barlow_twins_terms(
    first: Tensor, second: Tensor, ids: Tensor | None = None, *, present: Tensor | None = None, eps: float = 1e-5
) -> dict[str, Tensor]:
    """Both terms by name, unweighted: `invariance` sum_i (1 - R_ii)^2 and `redundancy` sum_{i != j} R_ij^2.

    Arguments and errors as of `barlow_twins`.
    """
    check_above("eps", eps)
    with full_precision(first):
        rows = aligned("barlow_twins", first, second, ids, present)
        of = rows.number.clamp(min=1)
        one, two = (side / (side.square().sum(0) / of + eps).sqrt() for side in rows.centred())
        correlation = one.T @ two / of
        same = torch.eye(len(correlation), dtype=torch.bool, device=correlation.device)
        terms = {
            "invariance": (1 - correlation.diagonal()).square().sum(),
            "redundancy": torch.where(same, 0, correlation).square().sum(),
        }
        return {name: rows.if_several(term) for name, term in terms.items()}
