"""What an encoder takes: input specifications of three kinds, and the one place where samples are normalised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.registry import Registry
from kinshot.samples.tokens import PADDING, vocabulary_size

KINDS = ("image", "features", "tokens")
INTERPOLATIONS = ("bilinear", "bicubic")
"""Filters that resize images, both antialiased, as Pillow's of these names are."""
_LARGEST = 2**24


@dataclass(frozen=True)
class InputSpec:
    """Pixels that an encoder was made for.

    Args:
        channels: 1 for gray, 3 for colour.
        size: height and width in pixels.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
        interpolation: filter by which images of another size are brought to this one, a name in INTERPOLATIONS.
    """

    kind: ClassVar[str] = "image"
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class FeatureSpec:
    """Rows of numbers that an encoder was made for.

    Args:
        dim: features of a sample.
        mean: of each feature.
        std: of each feature, above 0.
    """

    kind: ClassVar[str] = "features"
    dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class TokenSpec:
    """Texts that an encoder was made for.

    Args:
        length: characters of a sample, padding included.
        alphabet: characters in the order of their ids, the first of which is 3.
    """

    kind: ClassVar[str] = "tokens"
    length: int
    alphabet: str

    @property
    def vocabulary(self) -> int:
        """Number of ids: padding, mask, unknown, and the alphabet."""
        return vocabulary_size(self.alphabet)


Spec = InputSpec | FeatureSpec | TokenSpec


class Described(Protocol):
    """What `input_of` reads off a source."""

    name: str
    kind: str
    shape: tuple[int, ...]
    alphabet: str

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel or feature."""


def input_of(source: Described) -> Spec:
    """The specification of a source's samples, with their mean and spread. Raises DataError for images that are not square."""
    if source.kind == "tokens":
        return TokenSpec(source.shape[0], source.alphabet)
    if source.kind == "features":
        return FeatureSpec(source.shape[0], *source.statistics())
    channels, size, width = source.shape
    if size != width:
        raise DataError(f"{source.name}: expected square images, got {size} x {width} pixels: crop or resize them")
    return InputSpec(channels, size, *source.statistics())


def normalize(batch: Tensor, spec: Spec) -> Tensor:
    """A loaded batch as encoders take it, on the same device.

    Images, uint8 or [0, 1] float (B, C, H, W), and features (B, F) get zero mean and unit variance, float32; tokens (B, L) become int64.
    """
    if isinstance(spec, TokenSpec):
        return batch.long()
    image = isinstance(spec, InputSpec)
    x = batch.float().div(255) if image and batch.dtype == torch.uint8 else batch.float()
    shape = (1, -1, 1, 1) if image else (1, -1)
    mean, std = (torch.tensor(values, device=x.device).view(shape) for values in (spec.mean, spec.std))
    return (x - mean) / std


def fitted(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Images (B, C, H, W) of [0, 1] in the channels and size of a specification, resized by its filter."""
    if pixels.shape[1] != spec.channels:
        pixels = pixels.mean(1, keepdim=True) if spec.channels == 1 else pixels.mean(1, keepdim=True).expand(-1, spec.channels, -1, -1)
    if pixels.shape[-2:] != (spec.size, spec.size):
        pixels = interpolate(pixels, size=(spec.size, spec.size), mode=spec.interpolation, antialias=True, align_corners=False)
        if spec.interpolation == "bicubic":
            pixels = pixels.clamp(0, 1)  # a cubic overshoots at edges, and no pixel does
    return pixels


def masked_mean(features: Tensor, tokens: Tensor) -> Tensor:
    """Mean of features (B, L, D) over the tokens (B, L) that are no padding: (B, D); zero for a sample of padding alone."""
    kept = (tokens != PADDING).unsqueeze(-1).to(features.dtype)
    return (features * kept).sum(dim=1) / kept.sum(dim=1).clamp_min(1)


def spec_to_dict(spec: Spec) -> dict[str, Any]:
    """Plain data that `spec_from_dict` reads back, for `state.json`."""
    return {"kind": spec.kind, **asdict(spec)}


def spec_from_dict(given: Mapping[str, Any]) -> Spec:
    """The specification that was written as plain data; without a kind it is an image's, as it was before there were others.

    Raises KeyError, TypeError or ValueError where the data does not describe one.
    """
    kind = given.get("kind", "image")
    if kind == "tokens":
        return TokenSpec(_positive(given["length"]), str(given["alphabet"]))
    mean, std = (tuple(float(value) for value in given[name]) for name in ("mean", "std"))
    counted = {"image": "channels", "features": "dim"}.get(kind)
    if counted is None:
        raise ValueError(f"unknown kind {kind!r}, known are {', '.join(KINDS)}")
    count = _positive(given[counted])
    if not len(mean) == len(std) == count or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError(f"expected {count} finite means and {count} spreads above 0, got {len(mean)} and {len(std)} numbers")
    if kind == "features":
        return FeatureSpec(count, mean, std)
    interpolation = given.get("interpolation", "bilinear")  # which all resized by before there was a choice
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"unknown interpolation {interpolation!r}, known are {', '.join(INTERPOLATIONS)}")
    return InputSpec(count, _positive(given["size"]), mean, std, interpolation)


def _positive(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise ValueError(f"expected a whole number from 1 to {_LARGEST}, got {value!r}")
    return value


def accepted_kinds(part: Any) -> tuple[str, ...]:
    """Kinds of samples that a registered encoder or views take, as its `accepts` says; images where it says nothing."""
    return tuple(getattr(part, "accepts", ("image",)))


def check_kind(registry: Registry, name: str, spec: Spec) -> None:
    """Raises ConfigError, naming the parts that would do, where the part called `name` does not take samples of the spec's kind."""
    accepted = accepted_kinds(registry.get(name))
    if spec.kind not in accepted:
        fitting = [other for other in registry.names() if spec.kind in accepted_kinds(registry.get(other))]
        choice = " or ".join(fitting) or "other data"
        raise ConfigError(f"{registry.kind} {name} takes {' or '.join(accepted)}, and the samples are {spec.kind}: choose {choice}")


def check_source(source: Described, spec: Spec) -> None:
    """Raises DataError where a source's samples are not what an encoder made for `spec` can embed.

    Images of another size or number of channels can be resized and texts of another length cut or padded; another kind,
    another number of features, or another alphabet cannot be helped.
    """
    if source.kind != spec.kind:
        raise DataError(f"{source.name} holds {source.kind}, but the encoder was made for {spec.kind}: choose other data")
    if isinstance(spec, FeatureSpec) and source.shape != (spec.dim,):
        raise DataError(f"{source.name} has {source.shape[0]} features, but the encoder was made for {spec.dim}: choose the same columns")
    if isinstance(spec, TokenSpec) and source.alphabet != spec.alphabet:
        raise DataError(f"{source.name} has another alphabet than the encoder was made for: read the texts with {spec.alphabet!r}")
