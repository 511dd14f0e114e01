"""Distances among the samples of a batch, as relational losses take them: each pair once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.objectives.common import distances


def pair_distances(z: Tensor) -> Tensor:
    """Euclidean distances (N (N - 1) / 2,) of all i < j, row by row; the gradient is 0 where two samples coincide.

    They come from differences, so they are right to rounding however far from the origin the samples lie.

    Args:
        z: (N, D).
    """
    if z.device.type in ("cpu", "cuda"):
        return F.pdist(z)
    above = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
    return distances(z, z)[above[0], above[1]]


def square_form(pairs: Tensor, count: int) -> Tensor:
    """The symmetric matrix (N, N) of values of all i < j, see `pair_distances`; 0 on its diagonal."""
    above = torch.ones(count, count, dtype=torch.bool, device=pairs.device).triu(1)
    upper = pairs.new_zeros(count, count).masked_scatter(above, pairs)
    return upper + upper.T


def pair_places(one: Tensor, other: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where `pair_distances` of `count` samples has the pairs int64 (T,), and bool (T,), which are no pair but one sample twice."""
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    same = one == other
    return (low * (2 * count - low - 1) // 2 + high - low - 1).masked_fill(same, 0), same
