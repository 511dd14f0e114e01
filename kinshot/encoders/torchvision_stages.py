"""The stages of a torchvision model: its four layers, or the parts of its `features`, where pooling and classifier follow on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.encoders.maps import Maps, walk

_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_STEM = ("conv1", "bn1", "relu", "maxpool")


@dataclass(frozen=True)
class TorchvisionStages:
    """Stages of a torchvision model.

    Args:
        dims: channels of every stage by the dotted name of its module, in order.
        strides: pixels between neighbouring places, by name.
        stem: modules before the first stage.
        head: modules behind the pooling.
        flat: whether pooled maps (B, C, 1, 1) are flattened before the head.
    """

    dims: dict[str, int]
    strides: dict[str, int]
    stem: tuple[str, ...]
    head: tuple[str, ...]
    flat: bool

    def maps(self, model: nn.Module, x: Tensor, wanted: Sequence[str]) -> list[Maps]:
        """Maps of the wanted stages for images (B, C, H, W), from one pass."""
        for name in self.stem:
            x = model.get_submodule(name)(x)
        found = walk(model, list(self.dims), x, wanted)
        return [Maps(found[name], self.strides[name]) for name in wanted]

    def pool(self, model: Any, maps: Maps) -> Tensor:
        """What the model makes of the last stage's maps: (B, dim)."""
        pooled = model.avgpool(maps.values) if hasattr(model, "avgpool") else nn.functional.adaptive_avg_pool2d(maps.values, 1)
        pooled = pooled.flatten(1) if self.flat else pooled
        for name in self.head:
            pooled = model.get_submodule(name)(pooled)
        return pooled


@torch.no_grad()
def stages_of_torchvision(model: Any, images: Tensor) -> TorchvisionStages | None:
    """The stages of a model in evaluation mode; None for one whose output is not what its pooling and head make of the last of them.

    Args:
        model: the model.
        images: (B, C, H, W), what it is tried on.
    """
    names: tuple[str, ...]
    stem: tuple[str, ...]
    if all(hasattr(model, name) for name in (*_LAYERS, *_STEM)):
        names, stem, head = _LAYERS, _STEM, ("fc",)
    elif isinstance(getattr(model, "features", None), nn.Sequential) and hasattr(model, "classifier"):
        names, stem, head = tuple(f"features.{name}" for name, _ in model.features.named_children()), (), ("classifier",)
    else:
        return None
    expected = model(images)
    for flat in (True, False):
        stages = TorchvisionStages(dict.fromkeys(names, 0), dict.fromkeys(names, 1), stem, head, flat)
        try:
            maps = stages.maps(model, images, names)
            if not torch.equal(stages.pool(model, maps[-1]), expected):
                continue
        except (RuntimeError, IndexError):
            continue
        dims = {name: int(one.values.shape[1]) for name, one in zip(names, maps, strict=True)}
        strides = {name: _stride(images.shape[-1], one.values.shape[-1]) for name, one in zip(names, maps, strict=True)}
        return TorchvisionStages(dims, strides, stem, head, flat)
    return None


def _stride(side: int, places: int) -> int:
    return 2 ** round(math.log2(side / places))
