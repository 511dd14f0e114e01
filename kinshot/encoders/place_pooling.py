"""One feature of the valid places of a series, whole or as a stream: their mean, their largest values, or the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.encoders.maps import Maps, place_mean
from kinshot.objectives.common import check_choice, widest

_NOTHING = float("-inf")


def valid_places(maps: Maps) -> Tensor:
    """bool (B, T'), which places are valid."""
    values = maps.values
    return torch.ones(len(values), values.shape[2], dtype=torch.bool, device=values.device) if maps.valid is None else maps.valid


def place_max(maps: Maps) -> Tensor:
    """Largest value of each channel at valid places of any grid: (B, C); zero for a sample without any."""
    values = maps.values.flatten(2)
    valid = valid_places(Maps(values, maps.stride, None if maps.valid is None else maps.valid.flatten(1)))
    largest = values.masked_fill(~valid.unsqueeze(1), _NOTHING).amax(dim=2)
    return largest.masked_fill(~valid.any(dim=1, keepdim=True), 0.0)


def last_place(maps: Maps) -> Tensor:
    """The values of the last valid place: (B, C); zero for a sample without any."""
    valid = valid_places(maps)
    index = (valid * torch.arange(valid.shape[1], device=valid.device)).amax(dim=1)
    last = maps.values.take_along_dim(index.view(-1, 1, 1), dim=2).squeeze(2)
    return last.masked_fill(~valid.any(dim=1, keepdim=True), 0.0)


POOLINGS: dict[str, Callable[[Maps], Tensor]] = {"mean": place_mean, "max": place_max, "last": last_place}
"""Maps (B, C, T') to features (B, C), by name."""


def pooling_of(where: str, name: str) -> Callable[[Maps], Tensor]:
    """The pooling called `name`. Raises ConfigError for an unknown one."""
    check_choice(f"{where}: pooling", name, tuple(POOLINGS))
    return POOLINGS[name]


@dataclass(frozen=True)
class Pooled:
    """What a stream's pooling keeps of all that came: as much after a day as after a second.

    Args:
        name: of the pooling.
        kept: (B, C): the sum in the device's most exact floats, the largest value so far, or the last.
        count: int64 (B,), valid places so far.
    """

    name: str
    kept: Tensor
    count: Tensor

    @classmethod
    def start(cls, name: str, streams: int, like: Tensor, dim: int) -> Pooled:
        """Before anything came, on the device and of the type of `like`."""
        dtype = widest(like.device) if name == "mean" else like.dtype
        kept = torch.full((streams, dim), _NOTHING if name == "max" else 0.0, dtype=dtype, device=like.device)
        return cls(name, kept, torch.zeros(streams, dtype=torch.int64, device=like.device))

    def add(self, maps: Maps) -> Pooled:
        """With the places that follow, of which there may be none."""
        if not maps.values.shape[2]:
            return self
        valid = valid_places(maps)
        some = valid.any(dim=1, keepdim=True)
        if self.name == "mean":
            kept = self.kept + maps.values.to(self.kept.dtype).masked_fill(~valid.unsqueeze(1), 0.0).sum(dim=2)
        elif self.name == "max":
            kept = torch.where(some, self.kept.maximum(place_max(maps)), self.kept)
        else:
            kept = torch.where(some, last_place(maps), self.kept)
        return Pooled(self.name, kept, self.count + valid.sum(dim=1))

    def feature(self, dtype: torch.dtype) -> Tensor:
        """What the pooling gives of all places so far: (B, C); zero where none was valid."""
        count = self.count.unsqueeze(1)
        feature = self.kept / count.clamp_min(1) if self.name == "mean" else self.kept.masked_fill(count == 0, 0.0)
        return feature.to(dtype)
