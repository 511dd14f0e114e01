"""Images: channels, height and width, and the mean and spread of their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kinshot.core.errors import ConfigError, DataError
from kinshot.samples import SPECS
from kinshot.samples.spec import Described, Normalized, count, given_as, moments
from kinshot.samples.statistics import pixel_statistics

INTERPOLATIONS = ("bilinear", "bicubic")
"""Filters that resize images, both antialiased, as Pillow's of these names are."""

_OVERSHOOT = 1e-4
"""What rounding may add to a float image's range of [0, 1]."""


@SPECS.register("image")
@dataclass(frozen=True)
class PixelSpec(Normalized):
    """Images that a network was made for.

    Args:
        channels: 1 for gray, 3 for colour.
        height: in pixels.
        width: in pixels.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
        interpolation: filter by which images of another size are brought to this one, a name in INTERPOLATIONS.
    """

    kind: ClassVar[str] = "image"
    resizable: ClassVar[bool] = True
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    @classmethod
    def square(cls, channels: int, size: int, mean: Sequence[float], std: Sequence[float], interpolation: str = "bilinear") -> PixelSpec:
        """Images of `size` by `size` pixels."""
        return cls(channels, size, size, tuple(mean), tuple(std), interpolation)

    @classmethod
    def unmeasured(cls, shape: Sequence[int]) -> PixelSpec:
        """Images of a shape (C, H, W) whose mean and spread are not known: `normalize` gives their values."""
        channels, height, width = shape
        return cls(channels, height, width, (0.0,) * channels, (1.0,) * channels)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> PixelSpec:
        """What `to_dict` described: `size` is the side of a square, or height and width."""
        channels, size = count(given["channels"]), given["size"]
        height, width = (count(value) for value in (size if isinstance(size, list | tuple) else (size, size)))
        interpolation = given.get("interpolation", "bilinear")  # which all resized by before there was a choice
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"unknown interpolation {interpolation!r}, known are {', '.join(INTERPOLATIONS)}")
        return cls(channels, height, width, *moments(given, channels), interpolation)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def size(self) -> int:
        """Height and width of square images. Raises ConfigError for others, which not every part takes."""
        if self.height != self.width:
            given = f"{self.height} x {self.width} pixels"
            raise ConfigError(f"expected square images, got {given}: crop or resize them, or choose parts that take any")
        return self.height

    @property
    def side(self) -> int:
        """The longer side in pixels."""
        return max(self.height, self.width)

    @property
    def rendering(self) -> dict[str, int]:
        """`channels`, and `size` for square images."""
        return {"channels": self.channels, **({"size": self.height} if self.height == self.width else {})}

    @property
    def meets(self) -> tuple[Any, ...]:
        """Size before channels, so that the smallest images sort first."""
        return self.kind, self.height, self.width, self.channels

    def measured(self, source: Described) -> PixelSpec:
        """With the mean and spread of each channel over evenly spaced images of a source."""
        mean, std = pixel_statistics(source)
        return replace(self, mean=mean, std=std)

    def values(self, batch: Tensor) -> Tensor:
        """Pixels in [0, 1]: bytes divided by 255, floats as they are."""
        return batch.float().div(255) if batch.dtype == torch.uint8 else batch.float()

    def fit(self, batch: Tensor) -> Tensor:
        """Images (B, C, H, W) in these channels, by way of grey, and this size, by its filter; bytes stay bytes, rounded."""
        if batch.shape[1:] == self.shape:
            return batch
        pixels = batch if batch.is_floating_point() else batch.float()
        if pixels.shape[1] != self.channels:
            gray = pixels.mean(1, keepdim=True)
            pixels = gray if self.channels == 1 else gray.expand(-1, self.channels, -1, -1)
        if pixels.shape[-2:] != (self.height, self.width):
            pixels = interpolate(pixels, size=(self.height, self.width), mode=self.interpolation, antialias=True, align_corners=False)
            if self.interpolation == "bicubic":  # a cubic overshoots at edges, and no pixel does
                pixels = pixels.clamp(0, 1 if batch.is_floating_point() else 255)
        return pixels if batch.is_floating_point() else pixels.round().to(batch.dtype)

    def blank(self, n: int) -> Tensor:
        """Images of one value each, from 0 to 1."""
        return torch.linspace(0, 1, n).view(n, 1, 1, 1).expand(n, *self.shape).contiguous()

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Normal noise, channels last."""
        return torch.randn((n, *self.shape), generator=generator).contiguous(memory_format=torch.channels_last)

    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Images, uint8 or floats in [0, 1], (B, C, H, W), in these channels and this size, normalised, channels last."""
        if not isinstance(samples, Tensor) or samples.ndim != 4:
            raise DataError(f"this encoder was made for images (B, C, H, W), got {given_as(samples)}")
        values = self.values(samples) if samples.dtype == torch.uint8 else _checked_floats(samples)
        return self.normalize(self.fit(values)).contiguous(memory_format=torch.channels_last)

    def raw(self, batch: Tensor) -> Tensor:
        """The pixels themselves, in [0, 1]: float32 (B, C*H*W)."""
        return self.values(batch).flatten(1)

    def pictures(self, batch: Tensor) -> Tensor:
        """The images themselves."""
        return batch

    def describe(self) -> str:
        """Channels, height and width."""
        return f"images of {self.channels} x {self.height} x {self.width}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it was written before images could be other than square: one `size` for those that are."""
        size = self.height if self.height == self.width else [self.height, self.width]
        moments = {"mean": self.mean, "std": self.std}
        return {"kind": self.kind, "channels": self.channels, "size": size, **moments, "interpolation": self.interpolation}


def _checked_floats(images: Tensor) -> Tensor:
    """Float images in [0, 1]; raises DataError for others, which would become features of something else without a word."""
    if not images.is_floating_point():
        raise DataError(f"images must be uint8 or floats in [0, 1], got {given_as(images)}: convert them with .to(torch.uint8)")
    if images.numel():
        low, high = (float(value) for value in images.aminmax())
        if not -_OVERSHOOT <= low <= high <= 1 + _OVERSHOOT:  # false for NaN too
            raise DataError(
                f"float images must lie in [0, 1], got values from {low:g} to {high:g}: divide pixels of 0 to 255 by 255, or give them as "
                "uint8; give images that were normalised or overshoot after resizing as they were before, or clamped"
            )
    return images.float()
