"""Who is compared with whom: positives from the sample's pseudo-class, negatives from a pool of the other classes.

A pool says where negatives may come from; a draw picks from it with a given generator. No draw repeats until it succeeds:
rows of the query's own class are masked beforehand. Where fewer than the wanted M remain, those that remain are repeated
in turn; where none remains, `Draw.available` is 0 and the query must not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kinshot.objectives.common import full_precision

Sampler = Literal["hard", "semi_hard", "random", "semi_easy"]

# similarities held at a time while pools are built: 32 MiB on a CPU, 1 GiB on a GPU, in float32
_CPU_SCORES, _GPU_SCORES = 1 << 23, 1 << 28


@dataclass(frozen=True)
class Members:
    """Samples sorted by label: class c owns `order[start[c] : start[c] + counts[c]]`; `rank` is each sample's place in `order`."""

    order: Tensor
    start: Tensor
    counts: Tensor
    rank: Tensor


@dataclass(frozen=True)
class Draw:
    """Drawn bank rows, (B,) or (B, M), and for each query how many different rows could have been drawn, (B,)."""

    indices: Tensor
    available: Tensor


def members_by_label(labels: Tensor, clusters: int) -> Members:
    """Member lists of all classes from labels (N,), pseudo-classes 0..K-1, by one sort."""
    counts = torch.bincount(labels, minlength=clusters)
    order = torch.argsort(labels, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return Members(order, counts.cumsum(0) - counts, counts, rank)


def draw_positives(members: Members, labels: Tensor, indices: Tensor, generator: torch.Generator, *, exclude_self: bool = False) -> Draw:
    """One uniform member of each sample's class. The sample itself counts unless `exclude_self`.

    Args:
        members: of the present labels.
        labels: int64 (N,).
        indices: int64 (B,) samples that ask.
        generator: CPU generator.
        exclude_self: never draw the sample itself; alone in its class it has 0 available, and its index stands in.
    """
    own = labels[indices]
    available = members.counts[own] - int(exclude_self)
    place = members.start[own] + _below(available, len(indices), generator)
    if exclude_self:
        place = place + (place >= members.rank[indices])
        place = torch.where(available > 0, place, members.rank[indices])
    return Draw(members.order[place], available)


def draw_random(members: Members, labels: Tensor, indices: Tensor, count: int, generator: torch.Generator) -> Draw:
    """`count` negatives per sample, uniform with replacement over all rows of other classes (sampler "random")."""
    own = labels[indices].unsqueeze(1)
    available = len(labels) - members.counts[own]
    place = _below(available, (len(indices), count), generator)
    # other classes fill the sorted order but for one block: step over the block
    place = place + members.counts[own] * (place >= members.start[own])
    return Draw(members.order[place.clamp(max=len(labels) - 1)], available.squeeze(1))


@torch.no_grad()
def candidate_pool(query: Tensor, features: Tensor, sampler: Sampler, size: int) -> Tensor:
    """Rows from which a query's negatives may come, int64 (B, P); similarities are computed a few queries at a time.

    Args:
        query: unit rows (B, D).
        features: the bank's unit rows (N, D).
        sampler: "hard" gives the top `size` rows in descending order of similarity, "semi_hard" the top and "semi_easy"
            the bottom ones in ascending order of index. ("random" needs no pool: `draw_random`.)
        size: P, cut to N.
    """
    size = min(size, len(features))
    step = max(1, (_GPU_SCORES if query.is_cuda else _CPU_SCORES) // len(features))
    with full_precision(query):
        return torch.cat([_select(part @ features.T, sampler, size) for part in query.split(step)])


def draw_from_pool(pool: Tensor, same: Tensor, count: int, generator: torch.Generator) -> Draw:
    """`count` uniform rows of each pool without replacement, skipping those marked `same` (B, P)."""
    keys = torch.rand(pool.shape, generator=generator).to(pool.device).masked_fill_(same, 2.0)
    drawn = min(count, pool.shape[1])
    if keys.device.type == "cpu" and drawn < pool.shape[1] and int(same.sum(dim=1).max()) <= pool.shape[1] - count:
        # enough rows remain everywhere, so their order does not matter: numpy's partition beats top-k several times
        columns = torch.from_numpy(np.argpartition(keys.numpy(), drawn, axis=1)[:, :drawn])
    else:
        columns = keys.topk(drawn, dim=1, largest=False).indices
    return _take(pool, columns, same, count)


def first_from_pool(pool: Tensor, same: Tensor, count: int) -> Draw:
    """The first `count` rows of each pool, skipping those marked `same` (B, P): no randomness (sampler "hard")."""
    columns = torch.argsort(same.to(torch.uint8), dim=1, stable=True)
    return _take(pool, columns, same, count)


def _take(pool: Tensor, columns: Tensor, same: Tensor, count: int) -> Draw:
    available = pool.shape[1] - same.sum(dim=1)
    turn = torch.arange(count, device=pool.device) % available.clamp(min=1).unsqueeze(1)
    return Draw(pool.gather(1, columns.gather(1, turn)), available)


def _below(limit: Tensor, shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    size = (shape,) if isinstance(shape, int) else shape
    uniform = torch.rand(size, generator=generator, dtype=torch.float64).to(limit.device)
    return (uniform * limit).long()


def _select(scores: Tensor, sampler: Sampler, size: int) -> Tensor:
    if sampler == "hard":
        return scores.topk(size, dim=1).indices
    if sampler == "semi_easy":
        scores = -scores
    if scores.device.type == "cpu":
        fast = _select_by_threshold(scores.numpy(), size)
        if fast is not None:
            return fast
    return scores.topk(size, dim=1, sorted=False).indices.sort(dim=1).values


def _select_by_threshold(scores: np.ndarray, size: int) -> Tensor | None:
    """Columns of the `size` largest scores of each row, ascending; None when ties (or NaN) make the threshold ambiguous.

    numpy's partition is vectorised and about three times as fast on a CPU as torch's top-k.
    """
    rows, columns = scores.shape
    threshold = np.partition(scores, columns - size, axis=1)[:, columns - size, None]
    flat = np.flatnonzero(scores >= threshold)
    if len(flat) != rows * size:
        return None
    return torch.from_numpy(flat.reshape(rows, size) - np.arange(rows)[:, None] * columns)
