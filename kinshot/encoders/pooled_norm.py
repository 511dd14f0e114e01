"""Convolution - batch norm - ReLU - max-pool as one differentiable step with a quarter of the memory traffic.

Max-pooling commutes with a non-decreasing function, so batch norm's affine map and the ReLU can run on the pooled map,
a quarter of the pixels. A negative scale is not monotone: its sign is folded into the convolution's weights first
(`sign * norm(x) == norm(sign * x)`), which leaves a scale of |gamma|. The backward pass then writes one dense map, where the
composition of the four modules writes four. Nothing here is an approximation: it is the same function and the same gradient.
(At gamma == 0 exactly, the pooled maximum is a tie over the window, and this code breaks it at the largest pre-activation.)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_POOL = 2
# Samples per slice of the passes that are bound by memory: their temporaries stay in a core's cache.
_CHUNK = 8


def _columns(x: Tensor) -> Tensor:
    """Channels-last (B, C, H, W) as a (B * H * W, C) view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _channel(v: Tensor) -> Tensor:
    return v.view(1, -1, 1, 1)


def _pool(x: Tensor, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    pooled, where = F.max_pool2d(x, _POOL, ceil_mode=ceil_mode, return_indices=True)
    return pooled, where


def _unpool_(out: Tensor, grad: Tensor, where: Tensor, ceil_mode: bool) -> Tensor:
    """Fill `out` with zeros and put `grad` where each maximum was found."""
    backward = torch.ops.aten.max_pool2d_with_indices_backward.grad_input
    window = [_POOL, _POOL]
    return backward(grad, out, window, window, [0, 0], [1, 1], ceil_mode, where, grad_input=out)


def _norm_relu(pooled: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(_channel(shift), pooled, _channel(scale)).relu_()


class PooledNorm(torch.autograd.Function):
    """relu(batch_norm(max_pool(y))) with the batch's statistics of the whole y, for gamma >= 0."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, gamma: Tensor, beta: Tensor, eps: float, ceil_mode: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(pooled output, batch mean, biased batch variance) of channels-last y (B, C, H, W)."""
        y = y.contiguous(memory_format=torch.channels_last)
        mean, var = torch.batch_norm_update_stats(y, None, None, 0.0)
        pooled, where = _pool(y, ceil_mode)
        inverse = (var + eps).rsqrt()
        scale = gamma * inverse
        out = _norm_relu(pooled, scale, beta - mean * scale)
        ctx.save_for_backward(y, pooled, where, out, mean, inverse, gamma)
        ctx.ceil_mode = ceil_mode
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of y, gamma and beta."""
        y, pooled, where, out, mean, inverse, gamma = ctx.saved_tensors
        kept, grad_gamma, grad_beta = _reduce(grad, out, pooled, mean, inverse)
        scale, count = gamma * inverse, y.numel() // y.shape[1]
        slope = -scale * inverse * grad_gamma / count
        offset = _channel(-scale * grad_beta / count - mean * slope)
        kept, slope = kept.mul_(_channel(scale)), _channel(slope)
        grad_y = torch.empty_like(y)
        for part, source, g, w in zip(grad_y.split(_CHUNK), y.split(_CHUNK), kept.split(_CHUNK), where.split(_CHUNK), strict=True):
            _unpool_(part, g, w, ctx.ceil_mode).addcmul_(source, slope).add_(offset)
        return grad_y, grad_gamma, grad_beta, None, None


class StemPooledNorm(torch.autograd.Function):
    """relu(batch_norm(max_pool(conv3x3(x)))) for few input channels and an x that needs no gradient.

    With C input channels a convolution is a product with the (9C, M) matrix P of centred patches, so that the statistics of
    its output (mean w.m, variance w'Sw) and the dense part of the backward pass follow from S = PP'/M, a 9C x 9C matrix:
    the full-size map lives only a few samples at a time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float, ceil_mode: bool) -> tuple[Tensor, ...]:
        """(pooled output, batch mean, biased batch variance) of x (B, C, H, W), weight (D, C, 3, 3)."""
        batch, _, height, width = x.shape
        patches = _patches(x)
        center = patches.mean(1)
        patches -= center[:, None]
        covariance = patches @ patches.t() / patches.shape[1]
        kernel = weight.flatten(1)
        mean, var = kernel @ center, ((kernel @ covariance) * kernel).sum(1)
        pooled, where = _pooled_product(patches, kernel, x.shape, ceil_mode)
        inverse = (var + eps).rsqrt()
        out = _norm_relu(pooled, gamma * inverse, beta)
        ctx.save_for_backward(patches, covariance, kernel, pooled, where, out, inverse, gamma)
        ctx.shape, ctx.ceil_mode = (batch, height, width), ceil_mode
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of weight, gamma and beta."""
        patches, covariance, kernel, pooled, where, out, inverse, gamma = ctx.saved_tensors
        batch, height, width = ctx.shape
        kept, grad_gamma, grad_beta = _reduce(grad, out, pooled, torch.zeros_like(inverse), inverse)
        full = pooled.new_empty((min(_CHUNK, batch), height, width, len(kernel))).permute(0, 3, 1, 2)
        total = torch.zeros_like(kernel)
        for g, w, columns in zip(kept.split(_CHUNK), where.split(_CHUNK), patches.split(_CHUNK * height * width, 1), strict=True):
            total.addmm_(_columns(_unpool_(full[: len(g)], g, w, ctx.ceil_mode)).t(), columns.t())
        grad_kernel = (total - (grad_gamma * inverse)[:, None] * (kernel @ covariance)) * (gamma * inverse)[:, None]
        return None, grad_kernel.view(len(kernel), -1, 3, 3), grad_gamma, grad_beta, None, None


def _pooled_product(patches: Tensor, kernel: Tensor, shape: torch.Size, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    """max_pool of the convolution of (9C, M) patches with kernel (D, 9C), a few samples at a time."""
    batch, _, height, width = shape
    size = [batch, len(kernel), *(-(-n // _POOL) if ceil_mode else n // _POOL for n in (height, width))]
    pooled = patches.new_empty(size).contiguous(memory_format=torch.channels_last)
    where = torch.empty_like(pooled, dtype=torch.int64)
    pool = torch.ops.aten.max_pool2d_with_indices.out
    parts = zip(patches.split(_CHUNK * height * width, 1), pooled.split(_CHUNK), where.split(_CHUNK), strict=True)
    for columns, values, indices in parts:
        y = (columns.t() @ kernel.t()).view(-1, height, width, len(kernel)).permute(0, 3, 1, 2)
        pool(y, [_POOL, _POOL], [_POOL, _POOL], [0, 0], [1, 1], ceil_mode, out=values, indices=indices)
    return pooled, where


def _reduce(grad: Tensor, out: Tensor, pooled: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient that passes the ReLU, and its sums for gamma and beta."""
    grad = grad.contiguous(memory_format=torch.channels_last)
    kept = torch.ops.aten.threshold_backward(grad, out, 0)
    grad_beta = _columns(kept).sum(0)
    grad_gamma = (_columns(kept * pooled).sum(0) - mean * grad_beta) * inverse
    return kept, grad_gamma, grad_beta


def _patches(x: Tensor) -> Tensor:
    """3x3 patches with zero padding: (B, C, H, W) to (9C, B * H * W), rows in the order of a flattened kernel (C, 3, 3)."""
    batch, channels, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1))
    patches = x.new_empty((channels, 3, 3, batch, height, width))
    for row in range(3):
        for column in range(3):
            patches[:, row, column] = padded[:, :, row : row + height, column : column + width].transpose(0, 1)
    return patches.view(9 * channels, -1)
