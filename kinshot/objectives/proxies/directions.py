"""Products and cosines of embeddings with rows of classes, of which directions alone count; gradients in closed form.

Lengths divide the products and not the rows, since a batch has fewer numbers than many classes do, and what lengths take of a gradient is
one pass over the rows. All of it is differentiable once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SHORTEST = 1e-12
"""The least length of a row that counts: a shorter one counts as that, and its length has no gradient."""


def cosines(z: Tensor, weight: Tensor) -> Tensor:
    """Cosines (B, R) of embeddings (B, D) with rows (R, D); of zeros 0."""
    return _Along.apply(z, weight, True)


def along(z: Tensor, weight: Tensor) -> Tensor:
    """Products (B, R) of embeddings (B, D) with the directions of rows (R, D); of zeros 0."""
    return _Along.apply(z, weight, False)


def nearest_cosines(z: Tensor, weight: Tensor, per_class: int) -> Tensor:
    """Cosines (B, C) of embeddings (B, D) with the nearest of each class's rows (C * per_class, D); of equals the first counts.

    Only the nearest takes a gradient. The k-th rows of all classes are taken together, so that a maximum over a class is one of matrices.
    """
    return _Nearest.apply(z, weight, per_class)


def inverse_lengths(rows: Tensor) -> Tensor:
    """One over the length of each row (..., D): (...,)."""
    return rows.square().sum(dim=-1).clamp_min(SHORTEST**2).rsqrt()


def _tangent_(gradient: Tensor, rows: Tensor, inverse: Tensor, own: Tensor) -> Tensor:
    """The gradient (R, D) of products with directions without what lies along rows (R, D) themselves, in place.

    Args:
        gradient: as if lengths were constants.
        rows: of any length.
        inverse: one over their lengths (R,).
        own: of each row, the sum of its products times their gradients (R,).
    """
    share = torch.where(inverse < 1 / SHORTEST, own * inverse.square(), 0)
    return gradient.addcmul_(rows, share.unsqueeze(1), value=-1)


def _to_raw(gradient: Tensor, z: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of rows z (B, D) from that of rows at unit length, in place."""
    gradient.mul_(inverse.unsqueeze(1))
    return _tangent_(gradient, z, inverse, (gradient * z).sum(dim=1))


class _Along(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, unit: bool) -> Tensor:
        lengths = inverse_lengths(z) if unit else None
        rows = z if lengths is None else z * lengths.unsqueeze(1)
        inverse = inverse_lengths(weight)
        found = (rows @ weight.T).mul_(inverse)
        ctx.save_for_backward(z, lengths, rows, weight, inverse, found)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        z, lengths, rows, weight, inverse, found = ctx.saved_tensors
        scaled, to_z, to_weight = grad * inverse, None, None
        if ctx.needs_input_grad[0]:
            to_z = scaled @ weight if lengths is None else _to_raw(scaled @ weight, z, lengths)
        if ctx.needs_input_grad[1]:
            to_weight = _tangent_(scaled.T @ rows, weight, inverse, (grad * found).sum(dim=0))
        return to_z, to_weight, None


class _Nearest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, per_class: int) -> Tensor:
        lengths, of_class = inverse_lengths(z), weight.unflatten(0, (-1, per_class))
        rows, inverse = z * lengths.unsqueeze(1), inverse_lengths(of_class)
        each = [(rows @ of_class[:, k].T).mul_(inverse[:, k]) for k in range(per_class)]
        best = each[0]
        for one in each[1:]:
            best = torch.maximum(best, one)
        # 1 where the k-th is the nearest; a mask of floats is made and used in a fraction of the time that one of bools takes on a CPU
        left, first = torch.ones_like(best), []
        for one in each:
            first.append(torch.eq(one, best, out=torch.empty_like(best)).mul_(left))
            left.sub_(first[-1])
        ctx.save_for_backward(z, lengths, rows, weight, inverse, best, *first)
        return best

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        z, lengths, rows, weight, inverse, best, *first = ctx.saved_tensors
        to_rows, to_weight = torch.zeros_like(rows), torch.empty_like(weight)
        of_class, to_class = (one.unflatten(0, (-1, len(first))) for one in (weight, to_weight))
        for k, mask in enumerate(first):
            mine = grad * mask
            own = (mine * best).sum(dim=0)
            mine.mul_(inverse[:, k])
            to_rows.addmm_(mine, of_class[:, k])
            torch.mm(mine.T, rows, out=to_class[:, k])
            _tangent_(to_class[:, k], of_class[:, k], inverse[:, k], own)
        return _to_raw(to_rows, z, lengths), to_weight, None
