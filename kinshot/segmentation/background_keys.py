"""What of a query's background a prototype is told apart from: single cells, regions, or one mean."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from kinshot.samples.class_map import IGNORE
from kinshot.segmentation.dense import BACKGROUND

Keys = Literal["cells", "grid", "global"]
OtherWays = Literal["negative", "drop"]
GRID = 4
"""Regions of `grid` along each side of a query."""


def background_cells(masks: Tensor, ways: int, size: tuple[int, int], other_ways: OtherWays = "negative") -> Tensor:
    """Which cells show background alone to each way: bool (E, W, Q, *size).

    A cell with any pixel of the way, or of which anything is unsaid (255), is none; one with pixels of other ways is one where these are
    `negative`.

    Args:
        masks: way maps of the queries (E, Q, H, W).
        ways: W.
        size: height and width in cells.
        other_ways: whether to one way the pixels of others are background too (hard negatives), or are left out.
    """
    way = torch.arange(1, ways + 1, device=masks.device).view(1, -1, 1, 1, 1)
    maps = masks.unsqueeze(1)
    excluded = (maps != BACKGROUND).expand(-1, ways, -1, -1, -1) if other_ways == "drop" else (maps == way) | (maps == IGNORE)
    found = adaptive_max_pool2d(excluded.flatten(0, 2).unsqueeze(1).float(), size) == 0
    return found.view(*excluded.shape[:3], *size)


def background_keys(
    query: Tensor, cells: Tensor, how: Keys = "cells", *, count: int = 64, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Keys of the queries' background for each way: (E, W, N, C), and which of them there are, bool (E, W, N).

    Args:
        query: maps (E, Q, C, h, w).
        cells: which cells are background to each way, bool (E, W, Q, h, w).
        how: `cells`, up to `count` of them drawn without replacement from all queries; `grid`, the mean over those in each of 4 x 4 regions
            of each query; `global`, the mean over all of them.
        count: N of `cells`, at most the number of all cells.
        generator: of the draws of `cells`, on the CPU; with None the first cells are taken.
    """
    if how == "cells":
        return _drawn(query, cells, count, generator)
    shown = cells.to(torch.promote_types(query.dtype, torch.float32))
    sums = query.unsqueeze(1).to(shown.dtype) * shown.unsqueeze(3)  # (E, W, Q, C, h, w)
    side = GRID if how == "grid" else 1
    mean, share = (adaptive_avg_pool2d(part.flatten(0, 2), side).unflatten(0, cells.shape[:3]) for part in (sums, shown.unsqueeze(3)))
    if how == "global":
        mean, share = mean.mean(2, keepdim=True), share.mean(2, keepdim=True)
    tiny = torch.finfo(share.dtype).tiny
    keys = (mean / share.clamp_min(tiny)).movedim(3, -1).flatten(2, 4)
    return keys, (share.squeeze(3) > 0).flatten(2)


def _drawn(query: Tensor, cells: Tensor, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    flat = cells.flatten(2)  # (E, W, Q * h * w)
    count = min(count, flat.shape[-1])
    if generator is None:
        order = torch.arange(flat.shape[-1], 0, -1).expand(flat.shape) / flat.shape[-1]
    else:
        order = torch.rand(flat.shape, generator=generator)
    # the largest of numbers that are drawn anew for every cell: a draw without replacement
    best = order.to(flat.device).masked_fill(~flat, -1).topk(count, dim=-1)
    rows = query.transpose(2, 1).flatten(2).mT  # (E, Q * h * w, C)
    index = best.indices.flatten(1).unsqueeze(-1).expand(-1, -1, rows.shape[-1])
    return rows.gather(1, index).unflatten(1, best.indices.shape[1:]), best.values >= 0
