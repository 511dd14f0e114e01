"""Few points that stand for many: the greedy k-center, farthest first."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError


@torch.no_grad()
def greedy_k_center(
    distances: Tensor,
    count: int,
    *,
    first: Tensor | None = None,
    reached: Tensor | None = None,
    among: Tensor | None = None,
    bonus: Tensor | None = None,
) -> Tensor:
    """Points chosen one after the other, each the farthest from all that were chosen before it; of equals the first.

    Paper: Gonzalez 1985, Clustering to minimize the maximum intercluster distance: never more than twice the best radius.

    Any leading dimensions (...) are problems of their own: classes, or anchors that choose among the same points by views of one
    matrix (`expand`).

    Args:
        distances: of the points to one another, (..., N, N); squares of them choose the same.
        count: how many to choose, from 0.
        first: int64 (...), the point to begin with; None = the one that the bonus prefers, where nothing is reached yet.
        reached: (..., N), each point's distance to the nearest of centers that stand already; None = there are none.
        among: bool (..., N), the points that may be chosen; None = all.
        bonus: (..., N), added to the distance of a point when it is compared with others; None = 0.

    Returns:
        int64 (..., count), and -1 where all points that may be chosen are.

    Raises:
        ConfigError: a negative count, or distances that are no square matrices.

    >>> points = torch.tensor([[0.0], [1.0], [5.0], [6.0], [9.0]])
    >>> greedy_k_center(torch.cdist(points, points), 3)
    tensor([0, 4, 2])
    """
    if count < 0:
        raise ConfigError(f"count: expected a number from 0, got {count}")
    if distances.dim() < 2 or distances.shape[-1] != distances.shape[-2]:
        raise ConfigError(f"greedy_k_center: expected distances (..., N, N), got {tuple(distances.shape)}")
    shape = distances.shape[:-1]
    left = distances.new_ones(shape, dtype=torch.bool) if among is None else among.expand(shape).clone()
    extra = distances.new_zeros(shape) if bonus is None else bonus.expand(shape)
    nearest = distances.new_full(shape, torch.inf) if reached is None else reached.expand(shape)
    chosen = torch.full((*shape[:-1], count), -1, device=distances.device)
    for number in range(count if shape[-1] else 0):
        # before anything is reached every distance is infinite, and the bonus alone decides
        values = torch.where(nearest.isinf(), extra, nearest + extra).masked_fill(~left, -torch.inf)
        best = values.argmax(dim=-1) if first is None or number else first.expand(shape[:-1])
        found = left.gather(-1, best.unsqueeze(-1)).squeeze(-1)
        chosen[..., number] = torch.where(found, best, -1)
        left.scatter_(-1, best.unsqueeze(-1), False)
        column = distances.gather(-2, best[..., None, None].expand(*shape[:-1], 1, shape[-1])).squeeze(-2)
        nearest = torch.where(found.unsqueeze(-1), torch.minimum(nearest, column), nearest)
    return chosen
