"""Frames: windows of what a camera shows over time, with gaps where it showed nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from kinshot.core.errors import DataError
from kinshot.samples import SPECS
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Described, Normalized, Spec, count, given_as, moments
from kinshot.samples.statistics import series_statistics

_OVERSHOOT = 1e-4


@SPECS.register("frames")
@dataclass(frozen=True)
class FramesSpec(Normalized):
    """Windows (C, T, H, W) of frames that a network was made for: float32 in [0, 1], NaN for frames that there are not.

    Channels come before time, as in series, so that what alters time alters it in both. NaN stands for the end of a window that is shorter
    than others, for a gap, and, all over, for a camera that a sample lacks; it is kept by loading and by `normalize`. A frame is there if
    any of its pixels is.

    Args:
        frames: of a sample, those included that there are not.
        channels: 1 for gray, 3 for colour.
        height: in pixels.
        width: in pixels.
        rate: frames in a second, in Hz.
        mean: of each channel, of pixels in [0, 1].
        std: of each channel, above 0.
    """

    kind: ClassVar[str] = "frames"
    absent: ClassVar[float] = math.nan
    raw_label: ClassVar[str] = "hand-made statistics"
    raw_feature: ClassVar[str] = "statistics"
    frames: int
    channels: int
    height: int
    width: int
    rate: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def unmeasured(cls, shape: Sequence[int], rate: float) -> FramesSpec:
        """Windows of a shape (C, T, H, W) whose mean and spread are not known: `normalize` gives their values."""
        channels, frames, height, width = shape
        return cls(frames, channels, height, width, float(rate), (0.0,) * channels, (1.0,) * channels)

    @classmethod
    def of(cls, image: PixelSpec, frames: int, rate: float) -> FramesSpec:
        """Windows of so many images, which are normalised as these are: for a network of images that is to see frames."""
        return cls(frames, image.channels, image.height, image.width, float(rate), image.mean, image.std)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> FramesSpec:
        """What `to_dict` described."""
        frames, channels, height, width = (count(given[name]) for name in ("frames", "channels", "height", "width"))
        rate = given["rate"]
        if type(rate) not in (int, float) or not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"expected a rate in Hz above 0, got {rate!r}")
        return cls(frames, channels, height, width, float(rate), *moments(given, channels))

    @property
    def image(self) -> PixelSpec:
        """What every frame is."""
        return PixelSpec(self.channels, self.height, self.width, self.mean, self.std)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, T, H, W)."""
        return self.channels, self.frames, self.height, self.width

    @property
    def steps(self) -> int:
        """T."""
        return self.frames

    @property
    def seconds(self) -> float:
        """T at the rate."""
        return self.frames / self.rate

    @property
    def meets(self) -> tuple[Any, ...]:
        """Size, channels and rate; windows of any length are cut or padded."""
        return self.kind, self.height, self.width, self.channels, self.rate

    def same_form(self, other: Spec) -> bool:
        """Whether channels, length, size and rate agree."""
        return isinstance(other, FramesSpec) and (self.shape, self.rate) == (other.shape, other.rate)

    def measured(self, source: Described) -> FramesSpec:
        """With the mean and spread of each channel over all frames of a source that there are."""
        mean, std = series_statistics(source)
        return replace(self, mean=mean, std=std)

    def values(self, batch: Tensor) -> Tensor:
        """Pixels in [0, 1]: bytes divided by 255, floats as they are, NaN for frames that there are not."""
        return batch.float().div(255) if batch.dtype == torch.uint8 else batch.float()

    def fit(self, batch: Tensor) -> Tensor:
        """Windows (B, C, T, H, W), each frame in these channels and this size as an image is brought there, cut or padded with NaN."""
        if batch.shape[1:] == self.shape:
            return batch
        cut = batch[:, :, : self.frames]
        images = self.image.fit(cut.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(batch), -1)).transpose(1, 2)
        lacking = self.frames - images.shape[2]
        return pad(self.values(images), (0, 0, 0, 0, 0, lacking), value=math.nan) if lacking else images.contiguous()

    def blank(self, n: int) -> Tensor:
        """Windows of one value each, from 0 to 1, all frames there."""
        return torch.linspace(0, 1, n).view(n, 1, 1, 1, 1).expand(n, *self.shape).contiguous()

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Normal noise, all frames there."""
        return torch.randn(n, *self.shape, generator=generator)

    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Windows (B, C, T, H, W) at this rate, uint8 or floats in [0, 1] with NaN, in this form, normalised."""
        what = f"frames (B, C, T, H, W) at {self.rate:g} Hz"
        if not isinstance(samples, Tensor) or samples.ndim != 5 or not (samples.dtype == torch.uint8 or samples.is_floating_point()):
            raise DataError(f"this encoder was made for {what}, uint8 or floats in [0, 1], got {given_as(samples)}")
        seen = samples[~samples.isnan()] if samples.is_floating_point() else samples
        if samples.is_floating_point() and len(seen):
            low, high = (float(value) for value in seen.aminmax())
            if not -_OVERSHOOT <= low <= high <= 1 + _OVERSHOOT:
                got = f"got values from {low:g} to {high:g}: divide pixels of 0 to 255 by 255, or give them as uint8"
                raise DataError(f"this encoder was made for {what} of values in [0, 1], {got}")
        return self.normalize(self.fit(self.values(samples)))

    def raw(self, batch: Tensor) -> Tensor:
        """Mean and standard deviation over time of every pixel, over the frames that there are, zero without any: float32 (B, 2*C*H*W)."""
        x = self.values(batch)
        there = ~x.isnan()
        steps = there.sum(2).clamp_min(1)
        mean = x.nansum(2) / steps
        spread = (torch.where(there, x - mean.unsqueeze(2), 0.0).square().sum(2) / steps).sqrt()
        return torch.stack([mean, spread], dim=1).flatten(1)

    def describe(self) -> str:
        """Length, channels, size and rate."""
        return f"windows of {self.frames} frames of {self.channels} x {self.height} x {self.width} at {self.rate:g} Hz"

    def check_source(self, source: Described) -> None:
        """Raise DataError for another kind of samples or another rate; other channels and sizes can be brought to these."""
        super().check_source(source)
        rate = getattr(source.spec, "rate", None)
        if rate != self.rate:
            found = f"{source.name} has frames at {rate:g} Hz, but the encoder was made for {self.rate:g} Hz"
            raise DataError(f"{found}: leave out or repeat frames, or train an encoder on this rate")
