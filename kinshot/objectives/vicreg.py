"""VICReg: two sets of rows agree, every feature varies, and no two features say the same."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.objectives import OBJECTIVES
from kinshot.objectives.aligned import Aligned, aligned
from kinshot.objectives.common import check_above, check_at_least, full_precision


@OBJECTIVES.register("vicreg", takes="views")
def vicreg(
    first: Tensor,
    second: Tensor,
    ids: Tensor | None = None,
    *,
    present: Tensor | None = None,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    spread: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    """Rows of one sample coincide, while every feature spreads over the batch and features do not correlate; nothing is a negative.

    The sum of `vicreg_terms`, weighted. The two sets may be two views, or two modalities at the same instants, of which some are missing.

    Paper: Bardes, Ponce, LeCun 2021, arXiv 2105.04906. It sums the variance term over both sets, as is done here; the released code
        takes its mean.

    Args:
        first: one set of rows (B, D), as they are: not of unit length.
        second: the other (B, D), same samples in the same order.
        ids: int64 (B,), which sample each row shows; plays no part, as no row is told from another.
        present: bool (B,), samples that both sets show; the others cost nothing. With fewer than two the loss is 0. None = all.
        invariance: weight of the mean squared difference, at least 0.
        variance: weight of the hinge on standard deviations, at least 0.
        covariance: weight of the squared covariances, at least 0.
        spread: standard deviation below which a feature costs something, above 0.
        eps: added to variances before the root, above 0, which keeps the gradient of a collapsed feature finite.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> round(kinshot.objectives.vicreg(first, first + 0.5).item(), 3)
    16.814
    """
    check_at_least(0, invariance=invariance, variance=variance, covariance=covariance)
    terms = vicreg_terms(first, second, ids, present=present, spread=spread, eps=eps)
    return invariance * terms["invariance"] + variance * terms["variance"] + covariance * terms["covariance"]


def vicreg_terms(
    first: Tensor,
    second: Tensor,
    ids: Tensor | None = None,
    *,
    present: Tensor | None = None,
    spread: float = 1.0,
    eps: float = 1e-4,
) -> dict[str, Tensor]:
    """The three terms by name, unweighted, each over the n rows that are present.

    * `invariance`: mean over rows and features of (a - b)^2;
    * `variance`: mean over features of max(0, spread - sqrt(var + eps)), both sets summed;
    * `covariance`: sum over pairs i != j of Cov_ij^2 over D, both sets summed. var and Cov divide by n - 1.

    Arguments and errors as of `vicreg`.
    """
    check_above("spread", spread)
    check_above("eps", eps)
    with full_precision(first):
        rows = aligned("vicreg", first, second, ids, present)
        one, two = rows.centred()
        terms = {
            "invariance": (rows.first - rows.second).square().mean(1).sum() / rows.number.clamp(min=1),
            "variance": _narrow(one, rows, spread, eps) + _narrow(two, rows, spread, eps),
            "covariance": _correlated(one, rows) + _correlated(two, rows),
        }
        return {name: rows.if_several(term) for name, term in terms.items()}


def _narrow(centred: Tensor, rows: Aligned, spread: float, eps: float) -> Tensor:
    variances = centred.square().sum(0) / (rows.number - 1).clamp(min=1)
    return (spread - (variances + eps).sqrt()).clamp(min=0).mean()


def _correlated(centred: Tensor, rows: Aligned) -> Tensor:
    covariances = centred.T @ centred / (rows.number - 1).clamp(min=1)
    apart = ~torch.eye(len(covariances), dtype=torch.bool, device=centred.device)
    return torch.where(apart, covariances, 0).square().sum() / len(covariances)
