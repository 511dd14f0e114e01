"""Where pixels that were said to be of a class really lie: on it, on another object, or on plain background."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.samples.class_map import IGNORE

OF_WAYS, BESIDE = 0, 1
"""Pixels whose value is the class of a way of their episode, and all others: background, and objects that nobody asked for."""


def count_taken(prediction: Tensor, masks: Tensor, classes: Tensor, values: int) -> Tensor:
    """Pixels by what they are and what they were said to be, int64 (2, values, values): [kind, true value, predicted value].

    `kind` is `OF_WAYS` or `BESIDE`; a pixel that was said to be of way w has that way's class as predicted value, one that was left
    to the background 0. Pixels of 255 are counted nowhere. Counts of several calls are added up.

    Args:
        prediction: way maps (B, H, W): 0 background, w + 1 way w.
        masks: class maps (B, H, W), values as in `kinshot.datasets.scenes`.
        classes: the value of each way's class in class maps, (B, W).
        values: how many values class maps have, 255 apart.

    >>> count_taken(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[3, 2, 3]]]), torch.tensor([[3]]), 4)[OF_WAYS, 3].tolist()
    [1, 0, 0, 1]
    """
    said = torch.cat([torch.zeros_like(classes[:, :1]), classes], dim=1)
    image = torch.arange(len(masks), device=masks.device).view(-1, 1, 1)
    known = masks != IGNORE
    predicted = said[image, prediction.long().where(known, 0)]
    asked = (masks.unsqueeze(1) == classes[:, :, None, None]).any(dim=1)
    kind = torch.where(asked, OF_WAYS, BESIDE)
    cells = ((kind * values + masks.long()) * values + predicted)[known]
    return torch.bincount(cells, minlength=2 * values * values).view(2, values, values)
