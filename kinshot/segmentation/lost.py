"""Objects of the support that no cell of a map stands for, where masks are brought to the size of maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kinshot.datasets.scenes import MASK, Scenes
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.episodes import DenseEpisodes
from kinshot.segmentation.pooling import Pooling, cell_weights

_AT_ONCE = 256
"""Masks that are looked at together."""


@dataclass(frozen=True)
class Convention:
    """How a segmenter brings masks and maps together, where that can lose an object.

    Args:
        pooling: `downsample` or `nearest`; under `upsample` every pixel of a mask has its share in some cell.
        align_corners: which bilinear interpolation.
    """

    pooling: Pooling
    align_corners: bool

    def lost(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """Of which masks, bool (..., H, W), no cell of a map of this height and width has any share: bool (...)."""
        weights = cell_weights(pixels, size, self.pooling, align_corners=self.align_corners)
        return weights.flatten(-2).amax(-1) <= 0


@dataclass(frozen=True)
class LostShots:
    """Which objects of the support are lost.

    Args:
        rows: images, and beside each in `classes` the value of the class in its mask; int64 (N,), every pair once.
        classes: int64 (N,).
        of: how many pairs there are in all.
        bare: episodes one of whose ways has no shot left.
    """

    rows: np.ndarray
    classes: np.ndarray
    of: int
    bare: int


def convention(name: str, settings: Mapping[str, Any]) -> Convention | None:
    """How a segmenter, by its settings or what it says where it is registered, loses objects; None where it loses none."""
    if name not in SEGMENTERS.entries:
        return None  # a few-shot head, to which every image gives a cell
    known = {**SEGMENTERS.entry(name).facts, **SEGMENTERS.check(name, dict(settings))[0]}
    pooling = known.get("pooling")
    return Convention(cast(Pooling, pooling), bool(known.get("align_corners"))) if pooling in ("downsample", "nearest") else None


def lost_shots(episodes: DenseEpisodes, scenes: Scenes, how: Convention, size: tuple[int, int]) -> LostShots:
    """The support's objects of which nothing is left in maps of this height and width."""
    support = episodes.support
    asked = np.stack([support, np.broadcast_to(episodes.classes[:, :, None], support.shape)], axis=-1).reshape(-1, 2)
    pairs, place = np.unique(asked, axis=0, return_inverse=True)
    found = np.zeros(len(pairs), dtype=bool)
    for first in range(0, len(pairs), _AT_ONCE):
        rows, classes = pairs[first : first + _AT_ONCE].T
        masks = scenes.load(rows, (MASK,))[MASK]
        found[first : first + _AT_ONCE] = how.lost(masks == torch.from_numpy(classes)[:, None, None], size).numpy()
    bare = np.any(found[place.reshape(-1)].reshape(support.shape).all(axis=2), axis=1)
    return LostShots(pairs[found, 0], pairs[found, 1], len(pairs), int(np.count_nonzero(bare)))
