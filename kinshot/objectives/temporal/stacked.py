"""InfoNCE of many small batches at once: one matrix of similarities for each step, position or series."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.common import ABSENT


def stacked_info_nce(logits: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each anchor and whether it counts, both (..., A): what `info_nce` is of each matrix of the stack.

    Positive weights weigh the average over kin, negative ones multiply terms of the sum. An anchor without kin, or with nothing to be
    told apart from, costs 0 and does not count.

    Args:
        logits: similarities over the temperature, (..., A, R).
        positive: weights, bool or float, to be broadcast to the same shape.
        negative: the same.
    """
    kin, others = (positive > 0).expand_as(logits), (negative > 0).expand_as(logits)
    weighted = logits if negative.dtype == torch.bool else logits + torch.where(negative > 0, negative, 1).to(logits.dtype).log()
    below = torch.where(kin, logits, torch.where(others, weighted, ABSENT)).logsumexp(-1)
    weights = positive.to(logits.dtype).expand_as(logits)
    mass = weights.sum(-1)
    above = torch.where(kin, logits * weights, 0).sum(-1) / torch.where(mass > 0, mass, 1)
    valid = kin.any(-1) & others.any(-1)
    return torch.where(valid, below - above, 0), valid


def mean_of_valid(losses: Tensor, valid: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Mean over what counts, along `dim` or over all; 0 where nothing does."""
    dims = tuple(range(losses.dim())) if dim is None else dim
    return torch.where(valid, losses, 0).sum(dims) / valid.sum(dims).clamp(min=1)


def told_apart(loss: str, relation: Relation | None, count: int, device: torch.device) -> Tensor:
    """Weights (B, B) of what rows are told apart from: of a relation, or 1 for all others; a row never from itself.

    Raises:
        ConfigError: a relation of another number of rows.
    """
    own = torch.eye(count, dtype=torch.bool, device=device)
    if relation is None:
        return ~own
    if relation.shape != (count, count):
        raise ConfigError(f"{loss}: expected a relation of {count} rows to themselves, got {relation.shape}")
    return relation.dense()[1].to(device).masked_fill(own, 0)
