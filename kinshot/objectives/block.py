"""The denominator's share of a whole block of references, in as few passes over the (A, R) products as there can be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kinshot.objectives.common import ABSENT


def block_logsumexp(z: Tensor, refs: Tensor, except_: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Logarithm (A,) of the sum of exponentials of an anchor's products with all references but a few, each perhaps with a weight.

    Differentiable once, in both. Only one (A, R) matrix is kept, and the gradient needs no further one.

    Args:
        z: (A, D), divided by the temperature.
        refs: (R, D), R above 0.
        except_: int64 (A, K), references left out, none negative.
        weights: (A, R), at least 0, without gradient; 0 leaves a reference out, and a row of zeros has the logarithm ABSENT.
    """
    return _BlockLogSumExp.apply(z, refs, except_, weights)


class _BlockLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, refs: Tensor, except_: Tensor | None, weights: Tensor | None) -> Tensor:
        terms = z @ refs.T
        if except_ is not None:
            terms.scatter_(1, except_, ABSENT)
        if weights is not None:  # not a product with 0: a similarity that nobody asked for may be infinite
            terms.masked_fill_(weights == 0, ABSENT)
        top = terms.amax(dim=1, keepdim=True)
        terms.sub_(top).exp_()
        if weights is not None:
            terms.mul_(weights)
        total = terms.sum(dim=1)
        there = top.squeeze(1) > ABSENT / 2
        # where everything is left out the exponentials are 1, and nothing may flow back
        ctx.save_for_backward(z, refs, terms, torch.where(there, total.reciprocal(), 0))
        return torch.where(there, total.log() + top.squeeze(1), ABSENT) if weights is not None else total.log() + top.squeeze(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        z, refs, terms, scale = ctx.saved_tensors
        share = (grad * scale).unsqueeze(1)
        to_z = (terms @ refs).mul_(share) if ctx.needs_input_grad[0] else None
        to_refs = terms.T @ (z * share) if ctx.needs_input_grad[1] else None
        return to_z, to_refs, None, None
