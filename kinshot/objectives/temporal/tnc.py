"""TNC: a discriminator tells windows near in time from windows far off, which may be alike all the same."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.common import at_least_float32, dense_weights, full_precision
from kinshot.objectives.temporal.stacked import mean_of_valid


def tnc(scores: Tensor, relation: Relation, *, weight: float = 0.05) -> Tensor:
    """Temporal neighborhood coding: -E_near log D - E_far [(1 - w) log(1 - D) + w log D], the sum of `tnc_terms`.

    What is far in time is unlabelled, not negative: with weight w it counts as near (positive-unlabelled learning).

    Paper: Tonekaboni, Eytan, Goldenberg 2021, arXiv 2106.00750. Near and far are those of `kinshot.kin.neighborhood`, whose width is
        fixed: the augmented Dickey-Fuller test that widens it in the paper is left out.

    Args:
        scores: the discriminator's logits (A, R) for each pair of a window and another one, log(D / (1 - D)).
        relation: of these windows: kin are near, negatives far, both as heavy as they weigh.
        weight: w, from 0 to below 1; 0.05 in the paper's experiment on activities.

    Raises:
        ConfigError: a weight out of range, or not one score for each pair.
    """
    terms = tnc_terms(scores, relation, weight=weight)
    return terms["near"] + terms["far"]


def tnc_terms(scores: Tensor, relation: Relation, *, weight: float = 0.05) -> dict[str, Tensor]:
    """Both terms by name, each the mean over windows that have any such pair of the window's weighted mean.

    Arguments and errors as of `tnc`.
    """
    if not 0 <= weight < 1:
        raise ConfigError(f"weight: expected a number from 0 to below 1, got {weight}")
    if tuple(scores.shape) != relation.shape:
        raise ConfigError(f"tnc: expected a score for each pair of {relation.shape}, got {tuple(scores.shape)}")
    with full_precision(scores):
        logits = at_least_float32(scores)
        near, far = (dense_weights(part, logits).to(logits.dtype) for part in (relation.positive, relation.negative))
        said, denied = F.softplus(-logits), F.softplus(logits)
        return {"near": _mean(said, near), "far": _mean((1 - weight) * denied + weight * said, far)}


def _mean(costs: Tensor, weights: Tensor) -> Tensor:
    mass = weights.sum(1)
    return mean_of_valid((costs * weights).sum(1) / mass.masked_fill(mass == 0, 1), mass > 0)
