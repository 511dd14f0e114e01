"""Soft maxima over an anchor's pairs, in as few passes over the (A, R) similarities as there can be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kinshot.objectives.common import as_floats, present


def log_one_plus_sum(similarity: Tensor, weights: Tensor, scale: float, threshold: float) -> Tensor:
    """log(1 + sum_r w exp(scale (s - threshold))) of each row (A,), without overflow; 0 where no weight is above 0.

    Differentiable once, in the similarities alone; two (A, R) matrices are kept, and the gradient makes a third.

    Args:
        similarity: (A, R), finite where weights are 0, too.
        weights: (A, R), bool or not negative.
        scale: any number.
        threshold: what similarities are compared with.
    """
    return _LogOnePlusSum.apply(similarity, weights, scale, threshold)


class _LogOnePlusSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, similarity: Tensor, weights: Tensor, scale: float, threshold: float) -> Tensor:
        # the first column is the logarithm of the 1; what is absent stands beside it as a 0, too, and is left out after the exponential,
        # which takes several times as long where its result is no normal number
        terms = similarity.new_zeros(len(similarity), similarity.shape[1] + 1)
        pairs, there = terms[:, 1:], as_floats(present(weights), similarity.dtype)
        torch.sub(similarity, threshold, out=pairs)
        pairs.mul_(scale)
        if weights.dtype != torch.bool:
            pairs.add_(torch.where(weights > 0, weights, 1).log())
        pairs.mul_(there)
        top = terms.amax(dim=1, keepdim=True)
        shares = (terms - top).exp_()
        shares[:, 1:].mul_(there)
        result = shares.sum(dim=1).log_().add_(top.squeeze(1))
        ctx.save_for_backward(terms, there, result)
        ctx.scale = scale
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        terms, there, result = ctx.saved_tensors
        shares = (terms[:, 1:] - result.unsqueeze(1)).exp_()
        return shares.mul_(there).mul_(grad.unsqueeze(1)).mul_(ctx.scale), None, None, None
