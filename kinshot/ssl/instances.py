"""Samples told from one another by a memory that holds a row of each of them: what NPID and InterCLR on it share."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.rng import keyed_generator
from kinshot.objectives.common import full_precision, unit


def drawn_rows(samples: int, wanted: int, seed: int, step: int) -> Tensor:
    """Rows of a memory that a step's batch is told from, int64 (min(wanted, samples),) on the CPU; 0 wanted is 4096."""
    return torch.randperm(samples, generator=keyed_generator(seed, "npid/negatives", step))[: wanted or 4096]


def told_from_rows(z: Tensor, rows: Tensor, memory: Tensor, drawn: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of each sample's own row of a memory over it and the rows drawn, none of which is its own.

    Args:
        z: embeddings (B, D), normalised here.
        rows: int64 (B,), the samples' own rows.
        memory: unit rows (N, D).
        drawn: int64 (M,), rows that are shared by the batch.
        temperature: divides every cosine similarity.
    """
    drawn = drawn.to(rows.device)
    with full_precision(z):
        query = unit(z.float()) / temperature
        own = (query * memory[rows]).sum(1, keepdim=True)
        others = (query @ memory[drawn].T).masked_fill(rows[:, None] == drawn, -torch.inf)
        return (torch.cat([own, others], 1).logsumexp(1) - own.squeeze(1)).mean()
