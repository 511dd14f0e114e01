"""Two crops of a window that overlap and stay where they were."""

from __future__ import annotations

import torch
from torch import Tensor

CROP_DRAWS = 4


def two_crops(steps: int, end: Tensor, u: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Which steps of windows lie outside of each of two crops: bool (B, 1, T) for either; the first ends where their overlap does.

    Paper: Yue et al., "TS2Vec: Towards Universal Representation of Time Series", 2021, arXiv:2106.10466. As in the authors' code
    the overlap is drawn first, then the rest of both crops; here every sample has an overlap of a length of its own.

    Args:
        steps: of a window, T.
        end: share of each window that is measured at all, (B,).
        u: draws (B, 4): length and place of the overlap, where the first crop begins and where the second ends.
        least: share of the window that the overlap has at least.
    """
    length = least + (1 - least) * u[:, :1]
    left = u[:, 1:2] * (1 - length)
    right = left + length
    begin, finish = left * u[:, 2:3], right + (1 - right) * u[:, 3:4]
    extent, step = (end * steps)[:, None], torch.arange(steps, device=u.device)

    def outside(first: Tensor, last: Tensor) -> Tensor:
        # whole steps around either edge, so that sensors of all rates have at least one in the overlap
        return ((step < (first * extent).floor()) | (step >= (last * extent).ceil()))[:, None]

    return outside(begin, right), outside(left, finish)
