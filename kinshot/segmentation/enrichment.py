"""PFENet's feature enrichment: a query's features beside a support vector and a prior mask, from fine to coarse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from kinshot.segmentation.cosine_maps import upsampled


class Enrichment(nn.Module):
    """Log odds of one class at every place of a query; (N, D, h, w), (N, D), (N, 1, h, w) -> the merged map, and one of each scale.

    At each scale s, the largest first: query pooled to s, support vector at every place and prior mask resized to s go through a 1x1
    convolution (m_s); m_s += alpha_s(m_s, map of the scale before at size s); m_s += two 3x3 convolutions of it; an auxiliary head
    sees m_s. All scales at the query's size, side by side, go through a 1x1 convolution, a residual block and the main head.

    Paper: Tian, Zhao, Shu, Yang, Li, Jia, 2020, arXiv 2008.01449 (PFENet)
    Departures: no dropout; heads have one output, the log odds, for two logits whose difference it is.

    Args:
        width: D.
        scales: sides of the maps as shares of the query's, sizes rounded up (60, 30, 15 and 8 of 60); at least one.
    """

    def __init__(self, width: int, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.init_merge = nn.ModuleList(_pointwise(2 * width + 1, width) for _ in scales)
        self.alpha = nn.ModuleList(_pointwise(2 * width, width) for _ in pairwise(scales))
        self.beta = nn.ModuleList(_two_convolutions(width, bias=False) for _ in scales)
        self.inner_heads = nn.ModuleList(_head(width, bias=False) for _ in scales)
        self.res1 = _pointwise(width * len(scales), width)
        self.res2 = _two_convolutions(width, bias=True)
        self.head = _head(width, bias=True)

    def forward(self, query: Tensor, support: Tensor, prior: Tensor) -> list[Tensor]:
        """Log odds (N, h, w), and those of the auxiliary heads, each (N, h_s, w_s)."""
        size = (query.shape[-2], query.shape[-1])
        pyramid: list[Tensor] = []
        auxiliary: list[Tensor] = []
        for number, scale in enumerate(self.scales):
            at = (_side(size[0], scale), _side(size[1], scale))
            pooled = query if at == size else adaptive_avg_pool2d(query, at)
            beside = support[:, :, None, None].expand(-1, -1, *at)
            hint = upsampled(prior, at, align_corners=True)
            merged = self.init_merge[number](torch.cat([pooled, beside, hint], dim=1))
            if pyramid:
                finer = upsampled(pyramid[-1], at, align_corners=True)
                merged = merged + self.alpha[number - 1](torch.cat([merged, finer], dim=1))
            merged = merged + self.beta[number](merged)
            auxiliary.append(self.inner_heads[number](merged).squeeze(1))
            pyramid.append(upsampled(merged, size, align_corners=True))
        merged = self.res1(torch.cat(pyramid, dim=1))
        return [self.head(merged + self.res2(merged)).squeeze(1), *auxiliary]


def _side(side: int, scale: float) -> int:
    return max(1, math.ceil(round(side * scale, 6)))  # 0.07 * 100 is 7, not the 7.000000000000001 of floats


def _pointwise(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.ReLU())


def _two_convolutions(width: int, *, bias: bool) -> nn.Sequential:
    first, second = (nn.Conv2d(width, width, 3, padding=1, bias=bias) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def _head(width: int, *, bias: bool) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=bias), nn.ReLU(), nn.Conv2d(width, 1, 1))
