"""Rows of classes begun anew: of every class's embeddings those that are farthest from the rows that it had."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.k_center import greedy_k_center
from kinshot.objectives.common import at_least_float32, unit


def drawn_pool(labels: np.ndarray, classes: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Samples of every class, drawn without putting back: int64 (classes, size), -1 where a class has no more.

    Args:
        labels: class of every sample, int64 (N,), -1 unknown.
        classes: how many there are.
        size: of a class at most.
        rng: what the order of samples is drawn from.
    """
    order = rng.permutation(len(labels))
    order = order[labels[order] >= 0]
    order = order[np.argsort(labels[order], kind="stable")]
    own = labels[order]
    counts = np.bincount(own, minlength=classes)
    place = np.arange(len(own)) - (np.cumsum(counts) - counts)[own]
    pool = np.full((classes, size), -1, dtype=np.int64)
    kept = place < size
    pool[own[kept], place[kept]] = order[kept]
    return pool


@torch.no_grad()
def farthest_rows(pool: Tensor, there: Tensor, before: Tensor, *, points: bool = False) -> Tensor:
    """New rows of every class, chosen one after the other from its pool, each the farthest from the rows before and from those chosen.

    Paper: the successor of Can, Gurbuz, Alatan 2019, arXiv 1907.07585, by the same group, starts each problem's proxies like this:
        greedy k-center by squared distance.

    Rows are directions: they are compared at length 1, and a new one is as long as the one whose place it takes. A place for which the
    pool has no more keeps its row; so do all places where embeddings are zero.

    Args:
        pool: embeddings (C, b, D).
        there: bool (C, b), which of them are samples of the class.
        before: the rows, (C, K, D).
        points: rows are points among the embeddings, compared and taken as they are.

    Raises:
        ConfigError: shapes that do not fit together.
    """
    fits = pool.dim() == before.dim() == 3 and there.shape == pool.shape[:2]
    if not fits or (len(before), before.shape[2]) != (len(pool), pool.shape[2]):
        got = f"{tuple(pool.shape)}, {tuple(there.shape)} and {tuple(before.shape)}"
        raise ConfigError(f"farthest_rows: expected embeddings (C, b, D), which are there (C, b), and rows (C, K, D), got {got}")
    z, rows = at_least_float32(pool), at_least_float32(before)
    if not points:
        there = there & (z != 0).any(dim=2)
        z, lengths, rows = unit(z), rows.norm(dim=2, keepdim=True), unit(rows)
    reached = torch.cdist(z, rows).square().amin(dim=2)
    chosen = greedy_k_center(torch.cdist(z, z).square(), before.shape[1], reached=reached, among=there)
    found = z.gather(1, chosen.clamp(min=0).unsqueeze(2).expand(-1, -1, z.shape[2]))
    found = found if points else found * lengths
    return torch.where(chosen.unsqueeze(2) < 0, before, found.to(before))
