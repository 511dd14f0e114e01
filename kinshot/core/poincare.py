"""The Poincare ball, a hyperbolic space: where trees fit in, as distances grow exponentially towards its rim.

Points lie in a ball of radius 1 / sqrt(c). Maps and distances are plain functions of tensors, differentiable, and finite at equal
points, at the origin and at the rim; half precision is for the caller to avoid.

Paper: Nickel, Kiela 2017, arXiv 1705.08039; with curvature, Ganea, Becigneul, Hofmann 2018, arXiv 1805.09112.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

RIM = 1e-3
"""How far from the rim points are kept, as a share of the radius."""


def clip(v: Tensor, length: float) -> Tensor:
    """Rows (..., D) no longer than `length`, so that gradients near the rim do not vanish.

    Paper: Guo, Wang, Chen, Yu 2022, arXiv 2107.11472 (Clipped hyperbolic classifiers).
    """
    return v * (length / (v.norm(dim=-1, keepdim=True) + 1e-5)).clamp(max=1)


def exp_map(v: Tensor, c: float) -> Tensor:
    """Tangent vectors (..., D) at the origin, mapped into the ball: tanh(sqrt(c) |v|) v / (sqrt(c) |v|)."""
    length = math.sqrt(c) * v.norm(dim=-1, keepdim=True)
    zero = length == 0
    return v * torch.where(zero, 1, length.tanh() / torch.where(zero, 1, length))


def project(x: Tensor, c: float) -> Tensor:
    """Points (..., D) that rounding or a step took to the rim, brought back inside: at most (1 - RIM) / sqrt(c) long."""
    longest = (1 - RIM) / math.sqrt(c)
    length = x.norm(dim=-1, keepdim=True)
    return torch.where(length > longest, x * (longest / torch.where(length > longest, length, 1)), x)


def mobius_add(x: Tensor, y: Tensor, c: float, eps: float = 0.0) -> Tensor:
    """x + y of the ball, (..., D), which is neither commutative nor associative; 0 + y = y and (-x) + x = 0.

    Args:
        x: (..., D).
        y: (..., D), broadcast with x.
        c: curvature, above 0.
        eps: added to the denominator, as some code has it.
    """
    xy, xx, yy = (x * y).sum(-1, keepdim=True), x.square().sum(-1, keepdim=True), y.square().sum(-1, keepdim=True)
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c**2 * xx * yy + eps)


def distances(x: Tensor, y: Tensor, c: float, *, clamped: bool = False) -> Tensor:
    """Geodesic distances (A, R) of points (A, D) and (R, D): 2 / sqrt(c) artanh(sqrt(c) |(-x) + y|).

    It is computed as 2 / sqrt(c) arsinh(sqrt(c) |x - y| / sqrt((1 - c |x|^2)(1 - c |y|^2))), which is equal, exact for near points and
    for points at the rim, and makes no (A, R, D). Equal points have gradient 0.

    Args:
        x: (A, D), inside the ball.
        y: (R, D), inside the ball.
        c: curvature, above 0.
        clamped: as released code has it: 1e-5 in the denominator of the sum, and artanh of at most 1 - 1e-5, which is shorter by 1e-4 to
            1e-2, most near the rim.
    """
    # the differences themselves: by way of products float32 loses small distances
    straight = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    xx, yy = x.square().sum(-1).unsqueeze(1), y.square().sum(-1).unsqueeze(0)
    root = math.sqrt(c)
    if not clamped:
        return 2 / root * (root * straight / ((1 - c * xx) * (1 - c * yy)).sqrt()).asinh()
    below = 1 - 2 * c * (x @ y.T) + c**2 * xx * yy
    return 2 / root * (root * straight * below.clamp(min=1e-15).sqrt() / (below + 1e-5)).clamp(max=1 - 1e-5).atanh()


def riemannian(x: Tensor, c: float) -> Tensor:
    """The points (..., D) themselves, whose gradient becomes that of the ball: times (1 - c |x|^2)^2 / 4."""
    return _Riemannian.apply(x, c)  # type: ignore[no-any-return, no-untyped-call]


class _Riemannian(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, c: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.c = c
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * (1 - ctx.c * x.square().sum(-1, keepdim=True)).square() / 4, None


def to_ball(v: Tensor, c: float, length: float) -> Tensor:
    """Embeddings (..., D) as points of the ball: clipped, by the exponential map, kept from the rim, with the ball's gradient."""
    return riemannian(project(exp_map(clip(v, length), c), c), c)
