"""InfoNCE: one positive against many negatives, given as rows, as a shared set or as indices into a bank."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError

# rows gathered at a time by `indexed_similarity`: small enough to stay in a CPU's cache, large enough to keep a GPU busy
_CPU_ROWS, _GPU_ROWS = 4096, 1 << 21


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context without autocast on the tensor's device: losses are computed in float32 or better."""
    return torch.autocast(tensor.device.type, enabled=False)


def unit(rows: Tensor) -> Tensor:
    """Rows (..., D) scaled to length 1, in float32 or better."""
    if rows.dtype in (torch.bfloat16, torch.float16):
        rows = rows.float()
    return F.normalize(rows, dim=-1)


def contrast(positive: Tensor, negatives: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of one positive similarity (B,) against negative similarities (B, M).

    Args:
        positive: similarity of each query to its positive, (B,).
        negatives: similarities of each query to its negatives, (B, M).
        temperature: divides every similarity; above 0.
        weights: optional (B,) factors of the queries' losses; the mean stays one over B, so that a query of weight 0 adds nothing.

    Raises:
        ConfigError: the temperature is not above 0.
    """
    _check_temperature(temperature)
    with full_precision(positive):
        logits = torch.cat([positive.unsqueeze(1), negatives], dim=1) / temperature
        losses = torch.logsumexp(logits, dim=1) - logits[:, 0]
        return losses.mean() if weights is None else (losses * weights).mean()


def info_nce(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Mean InfoNCE loss with cosine similarities; every row is normalised here.

    Paper: van den Oord, Li, Vinyals 2018, arXiv 1807.03748.

    Args:
        query: (B, D).
        positive: (B, D), row b is the positive of query b.
        negatives: (L, D) shared by all queries, or (B, M, D) with a set for each query.
        temperature: divides every similarity; above 0.

    Raises:
        ConfigError: the temperature is not above 0.
    """
    with full_precision(query):
        u, v, n = unit(query), unit(positive), unit(negatives)
        against = u @ n.T if n.dim() == 2 else torch.bmm(n, u.unsqueeze(2)).squeeze(2)
        return contrast((u * v).sum(dim=1), against, temperature)


def indexed_similarity(query: Tensor, bank: Tensor, indices: Tensor) -> Tensor:
    """Dot products of each query with its own rows of a bank, (B, M), without ever holding (B, M, D).

    Differentiable once in `query`; the bank is a constant. Rows are used as they are: pass unit rows for cosines.

    Args:
        query: (B, D).
        bank: (N, D), same dtype.
        indices: int64 (B, M), rows of the bank.
    """
    return _IndexedSimilarity.apply(query, bank, indices)


class _IndexedSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, bank: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(bank, indices)
        rows = _GPU_ROWS if query.is_cuda else _CPU_ROWS
        step = max(1, rows // max(1, indices.shape[1]))
        out = query.new_empty(indices.shape)
        for q, i, o in zip(query.split(step), indices.split(step), out.split(step), strict=True):
            gathered = bank.index_select(0, i.reshape(-1)).view(*i.shape, -1)
            o.copy_(torch.bmm(gathered, q.unsqueeze(2)).squeeze(2))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        bank, indices = ctx.saved_tensors
        return F.embedding_bag(indices, bank, mode="sum", per_sample_weights=grad.contiguous()), None, None


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
