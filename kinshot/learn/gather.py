"""One batch out of all processes' rows, through which gradients flow back to where each row came from."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def gather_rows(z: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, (processes * B, ...); `z` itself where there is one process.

    For losses of relations within a batch: of each process's rows alone they would be other, weaker losses. Every process then
    computes the same loss of all rows, and the way back adds up what all processes say of a row. A row's gradient is therefore that of
    the loss times the number of processes, and the average over processes that DistributedDataParallel takes of the parameters'
    gradients is exactly the gradient that one process with the whole batch has.

    Today the losses of a student and its teacher alone call it, and no command of kinshot starts several processes: it works where
    somebody's own launcher does, and other losses of relations see the rows of their process until distribution comes.

    Every process must call it, in the same order, with equally many rows of the same shape and type.

    Args:
        z: (B, ...) rows of this process.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z
    return _Gather.apply(z)


class _Gather(torch.autograd.Function):
    """All-gather of rows; back, the sum over processes of the gradients of one's own."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.rows = len(z)
        parts = [torch.empty_like(z, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> Tensor:
        total = incoming.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)
