"""Series: windows of what a sensor measures over time, with gaps where it measured nothing."""

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
from kinshot.samples.hand_features import hand_features
from kinshot.samples.spec import Described, Normalized, Spec, count, given_as, moments
from kinshot.samples.statistics import series_statistics


@SPECS.register("series")
@dataclass(frozen=True)
class SeriesSpec(Normalized):
    """Windows (C, T) of a sensor that a network was made for: float32, NaN where nothing was measured.

    NaN stands for a burst of missing values, for a whole channel, for the end of a window that is shorter than others, and, all over,
    for a sensor that a sample lacks: the mask is never apart from its data. It is kept by loading and by `normalize`; an encoder reads off
    it what is measured. Infinity is an error.

    Args:
        channels: what is measured at each step, 3 for the axes of an accelerometer.
        length: steps of a sample, padding included.
        rate: steps in a second, in Hz.
        mean: of each channel, over what is measured.
        std: of each channel, above 0.
        relative: whether a window counts as what it is around its own mean, which `normalize` takes away: for sensors whose level says
            more of place and weather than of what happens, as air pressure does.
    """

    kind: ClassVar[str] = "series"
    absent: ClassVar[float] = math.nan
    raw_label: ClassVar[str] = "hand-made statistics"
    raw_feature: ClassVar[str] = "statistics"
    channels: int
    length: int
    rate: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    relative: bool = False

    @classmethod
    def unmeasured(cls, shape: Sequence[int], rate: float, *, relative: bool = False) -> SeriesSpec:
        """Windows of a shape (C, T) whose mean and spread are not known: `normalize` gives values, or values around their mean."""
        channels, length = shape
        return cls(channels, length, float(rate), (0.0,) * channels, (1.0,) * channels, relative)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> SeriesSpec:
        """What `to_dict` described."""
        channels, length, rate = count(given["channels"]), count(given["length"]), given["rate"]
        if type(rate) not in (int, float) or not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"expected a rate in Hz above 0, got {rate!r}")
        if type(given["relative"]) is not bool:
            raise TypeError(f"expected relative to be true or false, got {given['relative']!r}")
        return cls(channels, length, float(rate), *moments(given, channels), given["relative"])

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, T)."""
        return self.channels, self.length

    @property
    def steps(self) -> int:
        """T."""
        return self.length

    @property
    def seconds(self) -> float:
        """T at the rate."""
        return self.length / self.rate

    @property
    def meets(self) -> tuple[Any, ...]:
        """Channels and rate; windows of any length are cut or padded."""
        return self.kind, self.channels, self.rate

    def same_form(self, other: Spec) -> bool:
        """Whether channels, length and rate agree, and whether windows count around their mean."""
        form = (self.shape, self.rate, self.relative)
        return isinstance(other, SeriesSpec) and form == (other.shape, other.rate, other.relative)

    def measured(self, source: Described) -> SeriesSpec:
        """With the mean and spread of each channel over what is measured in all samples of a source; around their means if `relative`."""
        mean, std = series_statistics(_AroundMeans(source) if self.relative else source)
        return replace(self, mean=mean, std=std)

    def values(self, batch: Tensor) -> Tensor:
        """The windows as float32, NaN where nothing was measured."""
        return batch.float()

    def normalize(self, batch: Tensor) -> Tensor:
        """Windows with zero mean and unit variance, NaN where nothing was measured; around their own mean first if `relative`."""
        return super().normalize(around_mean(self.values(batch)) if self.relative else batch)

    def fit(self, batch: Tensor) -> Tensor:
        """Windows (B, C, T), cut at their end to this length, or padded there with NaN; no other channels or rate can become these."""
        cut = batch[..., : self.length]
        return cut if cut.shape[-1] == self.length else pad(cut, (0, self.length - cut.shape[-1]), value=math.nan)

    def blank(self, n: int) -> Tensor:
        """Windows of one value each, from 0 to 1, all of it measured."""
        return torch.linspace(0, 1, n).view(n, 1, 1).expand(n, *self.shape).contiguous()

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Normal noise, all of it measured."""
        return torch.randn(n, *self.shape, generator=generator)

    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Windows (B, C, T) at this rate, NaN where nothing was measured, cut or padded to this length, normalised."""
        what = f"series (B, {self.channels}, T) at {self.rate:g} Hz"
        if not isinstance(samples, Tensor) or samples.ndim != 3 or samples.shape[1] != self.channels or samples.is_complex():
            raise DataError(f"this encoder was made for {what}, got {given_as(samples)}")
        if bool(torch.isinf(samples).any()):
            raise DataError(f"this encoder was made for {what} of finite values, got infinity: write NaN where nothing was measured")
        return self.normalize(self.fit(self.values(samples)))

    def raw(self, batch: Tensor) -> Tensor:
        """Statistics and spectrum of every channel (`hand_features`): float32 (B, D), one D for all lengths above 30 steps."""
        return hand_features(self.values(batch))

    def describe(self) -> str:
        """Channels, length and rate."""
        return f"series of {self.channels} channels and {self.length} steps at {self.rate:g} Hz"

    def check_source(self, source: Described) -> None:
        """Raise DataError for another kind of samples, another number of channels, or another rate."""
        super().check_source(source)
        if source.shape[0] != self.channels:
            found = f"{source.name} has {source.shape[0]} channels, but the encoder was made for {self.channels}"
            raise DataError(f"{found}: choose the same columns, or another encoder")
        rate = getattr(source.spec, "rate", None)
        if rate != self.rate:
            found = f"{source.name} was sampled at {rate:g} Hz, but the encoder was made for {self.rate:g} Hz"
            raise DataError(f"{found}: resample the recordings to {self.rate:g} Hz, or train an encoder on this rate")


def around_mean(batch: Tensor) -> Tensor:
    """Windows (B, C, T) less the mean of what each channel of each of them measured; NaN stays."""
    return batch - batch.nanmean(dim=2, keepdim=True)


class _AroundMeans:
    """A source of windows, each around its own mean."""

    def __init__(self, source: Described) -> None:
        self.source, self.name = source, source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return self.source.shape

    def __len__(self) -> int:
        return len(self.source)

    def load(self, indices: Any) -> Tensor:
        """The windows at `indices`, in float64, as small changes of large values are what is left."""
        return around_mean(self.source.load(indices).double())
