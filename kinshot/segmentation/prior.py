"""PFENet's prior mask: where a query has anything that looks like something of the masked support."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinshot.objectives.common import full_precision
from kinshot.segmentation.pooling import cell_weights

EPS = 1e-7
"""Added to the spread of an image's values, as in the authors' code."""

_TILE = 2**24
"""Most similarities that are held at once; a map of 60 x 60 cells has 13 million with one other."""


def prior_mask(support: Tensor, weights: Tensor, query: Tensor, *, eps: float = EPS, tile: int = _TILE) -> Tensor:
    """How much each query cell looks like the support cell that it is most alike, from 0 to 1 over its image: (E, Q, W, h, w).

    c_k(x) = max_y cos(f_q(x), m_k(y) f_k(y)) over all cells y of shot k, a masked cell having the cosine 0; then for each image and
    shot (c_k - min c_k) / (max c_k - min c_k + eps), and the mean over the way's shots. PFENet takes no gradient of it, and computes
    `support` from an earlier stage that was masked already: the last stage of `masked(earlier stage, weights)`.

    Paper: Tian, Zhao, Shu, Yang, Li, Jia, 2020, arXiv 2008.01449
    Departures: a zero vector has the cosine 0; the authors add 1e-7 to the product of the norms. Shots without any weight are left out
    of the mean over shots; where all are, the prior is 0.

    Args:
        support: maps (E, W, K, C, h', w') of the stage that is compared.
        weights: how much each cell is in the mask, (E, W, K, h', w'), as `mask_weights` makes them.
        query: maps (E, Q, C, h, w) of the same stage.
        eps: added to the spread.
        tile: most similarities that are held at once, which changes no value.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    cells = normalize(masked(support.to(wide), weights).flatten(-2), dim=3)  # (E, W, K, C, n)
    asked = normalize(query.flatten(-2).to(wide), dim=2).movedim(1, 2).flatten(2)  # (E, C, Q * m)
    best = _best_cosine(cells.flatten(1, 2).mT, asked, tile)  # (E, W * K, Q * m)
    best = best.unflatten(1, cells.shape[1:3]).unflatten(-1, (query.shape[1], -1))
    low, high = best.amin(-1, keepdim=True), best.amax(-1, keepdim=True)
    spread = (best - low) / (high - low + eps)
    kept = (weights.flatten(-2).amax(-1) > 0).to(wide)[..., None, None]
    mean = (spread * kept).sum(2) / kept.sum(2).clamp_min(1)  # (E, W, Q, m)
    return mean.transpose(1, 2).unflatten(-1, query.shape[-2:])


def _best_cosine(cells: Tensor, asked: Tensor, tile: int) -> Tensor:
    """Largest product over the n cells of each image with each column: (E, I, n, C) and (E, C, M) give (E, I, M)."""
    episodes, images, count = cells.shape[:3]
    step = max(1, tile // max(1, episodes * images * asked.shape[-1]))
    best: Tensor | None = None
    with full_precision(cells):
        for start in range(0, count, step):  # in tiles, or two large maps would need gigabytes
            part = cells[:, :, start : start + step]
            found = (part.flatten(1, 2) @ asked).unflatten(1, part.shape[1:3]).amax(2)
            best = found if best is None else torch.maximum(best, found)
    return asked.new_zeros(episodes, images, asked.shape[-1]) if best is None else best


def mask_weights(pixels: Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """How much each cell is in a mask, as PFENet has it: bool (..., H, W) in a map's size, bilinear with aligned corners."""
    return cell_weights(pixels, size, "downsample", align_corners=True, dtype=dtype)


def masked(maps: Tensor, weights: Tensor) -> Tensor:
    """Maps (..., C, h, w) of which the mask alone is left, by the weights (..., h, w) of its cells."""
    return maps * weights.unsqueeze(-3).to(maps.dtype)
