"""Cells as rows: which cells of a support map stand for a way or the background, and an even choice of a few of them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kinshot.segmentation.dense import BACKGROUND, way_pixels
from kinshot.segmentation.pooling import background_pixels, carried

UNLABELLED = -1
"""The label of a cell that is mixed, or of which nothing is said."""


def cover(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Share of each cell's pixels that a mask marks: bool (..., H, W) to float32 (..., *size).

    Cells that do not divide the mask's size share the pixels that lie in two of them.
    """
    rows, columns = (_inside(have, want, pixels) for have, want in zip(pixels.shape[-2:], size, strict=True))
    # counts are whole numbers, and a cell that is covered wholly has exactly 1
    return carried(pixels, rows, columns.mT) / (rows.sum(1, keepdim=True) * columns.sum(1))


def _inside(size: int, cells: int, like: Tensor) -> Tensor:
    """Which of `size` pixels lie in each of the cells of a line, at least in part: float32 (cells, size), 0 or 1."""
    lines = torch.eye(size, dtype=torch.float32, device=like.device)
    return (interpolate(lines[None], cells, mode="area")[0].mT > 0).float()


def cell_labels(
    masks: Tensor, size: tuple[int, int], way_cover: float, background_cover: float, other_ways: Literal["drop", "background"] = "drop"
) -> Tensor:
    """What each cell of the support shows: int64 (E, W, K, *size), 0 background, w + 1 its image's own way w, -1 neither alone.

    In an image none of whose cells is covered enough by its own way, the one that is covered most stands for it.

    Args:
        masks: way maps (E, W, K, H, W).
        size: height and width in cells.
        way_cover: the least share of a cell's pixels that makes it a cell of the way.
        background_cover: the least share that makes it background, if it is none of the way.
        other_ways: whether in an image of one way the pixels of another are background to it, or nothing.
    """
    way = torch.arange(1, masks.shape[1] + 1, device=masks.device).view(-1, 1, 1)
    own = cover(way_pixels(masks), size).flatten(-2)
    background = cover(background_pixels(masks, other_ways=other_ways), size).flatten(-2)
    most = own.amax(-1, keepdim=True)
    fullest = torch.zeros_like(own, dtype=torch.bool).scatter(-1, own.argmax(-1, keepdim=True), True)
    shown = ((own >= way_cover) | (fullest & (most < way_cover))) & (own > 0)
    labels = torch.full_like(own, UNLABELLED, dtype=torch.int64).masked_fill(background >= background_cover, BACKGROUND)
    return torch.where(shown, way, labels).unflatten(-1, size)


def even_choice(marked: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most `most` of the marked places of each row, evenly spread over them in their order.

    Of n marked places those with a rank r at which floor(c (r + 1) / n) steps are taken, c = min(n, most).

    Args:
        marked: bool (..., places).
        most: how many.

    Returns:
        Places (..., min(most, places)) int64, and which of these are marked ones, bool of the same shape; the others only fill up.
    """
    rank, count = marked.cumsum(-1) - 1, marked.sum(-1, keepdim=True)
    taken = count.clamp_max(most)
    divisor = count.clamp_min(1)
    chosen = marked & ((rank + 1) * taken // divisor > rank * taken // divisor)
    places = (~chosen).int().argsort(dim=-1, stable=True)[..., :most]
    return places, torch.arange(places.shape[-1], device=marked.device) < taken


def support_rows(support: Tensor, labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Labelled cells as rows of few-shot episodes: features (E, S, C) and labels (E, S), -1 where a row only fills up.

    At most `most` cells of the background and of its own way from every image. The last row is zero and stands for the background of an
    episode that has no cell of it, as a zero vector is alike to nothing.

    Args:
        support: maps (E, W, K, C, h, w).
        labels: int64 (E, W, K, h, w), 0, w + 1 or -1.
        most: cells of each label of an image.
    """
    way = torch.arange(1, labels.shape[1] + 1, device=labels.device).view(-1, 1, 1)
    flat = labels.flatten(-2)
    places, real = even_choice(torch.stack([flat == BACKGROUND, flat == way], dim=3), most)
    each = torch.stack([torch.zeros_like(way), way], dim=-2)  # (W, 1, 2, 1)
    named = torch.where(real, each, UNLABELLED).flatten(1)
    index = places.flatten(3).unsqueeze(3).expand(-1, -1, -1, support.shape[3], -1)
    rows = support.flatten(-2).gather(-1, index).movedim(3, -1).flatten(1, 3)
    lacking = torch.where((named == BACKGROUND).any(1, keepdim=True), UNLABELLED, BACKGROUND)
    rows, named = torch.cat([rows, torch.zeros_like(rows[:, :1])], dim=1), torch.cat([named, lacking], dim=1)
    used = (named != UNLABELLED).any(0)  # what only fills up in every episode costs the head nothing
    return rows[:, used], named[:, used]
