"""What a network may know of the samples that it takes: one contract, kept by one class for each kind of samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.registry import Registry
from kinshot.samples import SPECS

_LARGEST = 2**24


class Described(Protocol):
    """What a specification reads off a source of samples of one kind."""

    name: str

    @property
    def spec(self) -> Spec:
        """What its samples are, without their mean and spread."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every sample."""

    def __len__(self) -> int: ...

    def load(self, indices: Any) -> Tensor:
        """The samples at `indices`: (B, *shape)."""


class Spec(ABC):
    """Samples of one kind and form, and all that is done to them before a network sees them.

    A loaded batch is what a source gives: pixels uint8 (B, C, H, W), rows float32 (B, F), ids (B, L), series float32 (B, C, T), frames
    float32 (B, C, T, H, W). Its values are the same as numbers with a unit of their own: pixels in [0, 1], rows and series as they are,
    ids int64. A normalised batch is what encoders take.

    Attributes:
        kind: what sources and encoders call this kind of samples; the name that it is registered under.
        whole: whether a network looks at all samples at once, so that a batch of all of them costs it no more than one of a few.
        resizable: whether `fit` brings samples of any form into this one without leaving out a part of them.
        absent: what a loaded batch is filled with where a sample lacks the field; NaN where that says "not measured".
        raw_label: what tables call the reference that `raw` is, a model of its own.
        raw_feature: what they call its feature.
    """

    kind: ClassVar[str]
    whole: ClassVar[bool] = False
    resizable: ClassVar[bool] = False
    absent: ClassVar[float] = 0.0
    raw_label: ClassVar[str] = "raw pixels"
    raw_feature: ClassVar[str] = "pixels"

    @classmethod
    @abstractmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Spec:
        """What `to_dict` described. Raises KeyError, TypeError or ValueError where the data does not describe one."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    @property
    def letters(self) -> str:
        """Characters of texts in the order of their ids; empty for samples that are no texts."""
        return ""

    @property
    def vocabulary(self) -> int:
        """How many ids samples are made of; 0 where they are measured numbers, which can be averaged and moved along a gradient."""
        return 0

    @property
    def side(self) -> int:
        """The longer side of a picture in pixels; 0 for samples that are no pictures."""
        return 0

    @property
    def steps(self) -> int:
        """How often something was measured, one after the other: samples are (C, steps, ...); 0 for samples that have no time."""
        return 0

    @property
    def seconds(self) -> float:
        """How long a sample is; 0 for samples that have no time."""
        return 0.0

    @property
    def rendering(self) -> dict[str, int]:
        """Settings of a source that can render its samples for a network, by name, and what they should be for this one."""
        return {}

    @property
    def meets(self) -> tuple[Any, ...]:
        """What decides which samples of a choice of data a network meets: equal for two networks that meet the same."""
        return (self.kind, *self.shape)

    def same_form(self, other: Spec) -> bool:
        """Whether a network made for one can be given the samples of the other, each normalised by its own."""
        return self.kind == other.kind and self.shape == other.shape

    def measured(self, source: Described) -> Spec:
        """The same with the mean and spread of a source's samples. Raises DataError for a source without any."""
        return self

    @abstractmethod
    def values(self, batch: Tensor) -> Tensor:
        """A loaded batch, or values already, as values, on the same device."""

    def normalize(self, batch: Tensor) -> Tensor:
        """A loaded batch, or values, as encoders take it, on the same device: zero mean and unit variance where samples are numbers."""
        return self.values(batch)

    def denormalize(self, x: Tensor) -> Tensor:
        """Values of a normalised batch."""
        return x

    @abstractmethod
    def fit(self, batch: Tensor) -> Tensor:
        """A batch, loaded or values, in this form as far as samples of a kind can be brought there: channels and size, or length."""

    def fit_normalized(self, x: Tensor) -> Tensor:
        """A normalised batch in this form, as `fit` brings its values there."""
        return x if x.shape[1:] == self.shape else self.normalize(self.fit(self.denormalize(x)))

    @abstractmethod
    def blank(self, n: int) -> Tensor:
        """`n` normalised samples of the right form that differ, (n, *shape): to try a network on."""

    @abstractmethod
    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` drawn samples as an encoder takes them, (n, *shape)."""

    @abstractmethod
    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Samples that a user hands to a network, checked, in its form and normalised.

        Raises:
            DataError: samples of another kind or form, or values that cannot be what the network was made for.
        """

    @abstractmethod
    def raw(self, batch: Tensor) -> Tensor:
        """The reference feature that any encoder must beat, of a loaded batch: float32 (B, D), one D for all batches of a source."""

    def pictures(self, batch: Tensor) -> Tensor | None:
        """A loaded batch, or values, as pictures to look at, (B, C, H, W) uint8 or in [0, 1]; None for samples that are none."""
        return None

    def texts(self, batch: Tensor) -> list[str] | None:
        """A loaded batch as texts to read; None for samples that are none."""
        return None

    @abstractmethod
    def describe(self) -> str:
        """What the samples are, for messages, as a plural."""

    def check_source(self, source: Described) -> None:
        """Raise DataError where a source's samples are not what a network made for this can embed, whatever is done to them.

        Images of another size or number of channels can be resized, and texts of another length cut or padded; another kind,
        another number of features, or another alphabet cannot be helped.
        """
        if source.spec.kind != self.kind:
            raise DataError(f"{source.name} holds {source.spec.kind}, but the encoder was made for {self.kind}: choose other data")

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `spec_from_dict` reads back, for `state.json`."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]  # every kind is a dataclass


class Normalized(Spec):
    """What kinds share whose samples are numbers: a mean and a spread for each channel, or feature.

    Attributes:
        mean: one for each channel.
        std: one for each channel, above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def _moments(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and spread, shaped for a batch."""
        trailing = (1,) * (len(self.shape) - 1)
        mean, std = (torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, *trailing) for values in (self.mean, self.std))
        return mean, std

    def normalize(self, batch: Tensor) -> Tensor:
        """A loaded batch, or values, with zero mean and unit variance: float32."""
        x = self.values(batch)
        mean, std = self._moments(x.device)
        return (x - mean) / std

    def denormalize(self, x: Tensor) -> Tensor:
        """Values of a normalised batch: float32."""
        mean, std = self._moments(x.device)
        return x.float() * std + mean


def input_of(source: Described) -> Spec:
    """The specification of a source's samples, with their mean and spread."""
    return source.spec.measured(source)


def spec_from_dict(given: Mapping[str, Any]) -> Spec:
    """The specification that `Spec.to_dict` wrote; without a kind it is an image's, as it was before there were others.

    Raises KeyError, TypeError or ValueError where the data does not describe one.
    """
    kind = given.get("kind", "image")
    if kind not in SPECS.entries:
        raise ValueError(f"unknown kind {kind!r}, known are {', '.join(SPECS.names())}")
    return SPECS.get(kind).from_dict(given)  # type: ignore[attr-defined]  # what is registered there is a class of this contract


def count(value: Any) -> int:
    """A whole number of channels, pixels, features or characters from plain data. Raises ValueError."""
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise ValueError(f"expected a whole number from 1 to {_LARGEST}, got {value!r}")
    return value


def moments(given: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of so many channels from plain data. Raises KeyError, TypeError or ValueError."""
    mean, std = (tuple(float(value) for value in given[name]) for name in ("mean", "std"))
    if not len(mean) == len(std) == channels or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError(f"expected {channels} finite means and {channels} spreads above 0, got {len(mean)} and {len(std)} numbers")
    return mean, std


def given_as(samples: object) -> str:
    """What somebody handed over, for messages."""
    return f"{samples.dtype} {tuple(samples.shape)}" if isinstance(samples, Tensor) else type(samples).__name__


def accepted_kinds(part: Any) -> tuple[str, ...]:
    """Kinds of samples that a registered encoder, views or method take, as its `accepts` says: images if nothing.

    None is all kinds but those of which no sample can be looked at without all others, such as nodes of a graph: these are taken by who
    names them.
    """
    accepted = getattr(part, "accepts", ("image",))
    return tuple(name for name in SPECS.names() if not SPECS.entry(name).flags.get("whole")) if accepted is None else tuple(accepted)


def check_kind(registry: Registry, name: str, spec: Spec) -> None:
    """Raises ConfigError, naming the parts that would do, where the part called `name` does not take samples of the spec's kind."""
    accepted = accepted_kinds(registry.get(name))
    if spec.kind not in accepted:
        fitting = [other for other in registry.names() if spec.kind in accepted_kinds(registry.get(other))]
        choice = " or ".join(fitting) or "other data"
        raise ConfigError(f"{registry.kind} {name} takes {' or '.join(accepted)}, and the samples are {spec.kind}: choose {choice}")
