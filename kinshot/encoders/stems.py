"""The first layers of residual networks: which stem goes with which images, told without loading torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

IMAGENET_SIZE = 64
"""From this size in pixels on, `stem="auto"` is the ImageNet stem."""

Stem = Literal["auto", "imagenet", "small"]
SettledStem = Literal["imagenet", "small"]


def stem_for(size: int) -> SettledStem:
    """What `stem="auto"` is for square images of a side in pixels."""
    return "imagenet" if size >= IMAGENET_SIZE else "small"


def stem_of(weights: Mapping[str, Tensor]) -> SettledStem:
    """The stem that saved weights have, by the kernel of their first convolution."""
    return "small" if weights["conv1.weight"].shape[-1] == 3 else "imagenet"
