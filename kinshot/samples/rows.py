"""Rows of numbers: measurements, or features that another model computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.samples import SPECS
from kinshot.samples.spec import Described, Normalized, count, given_as, moments
from kinshot.samples.statistics import feature_statistics


@SPECS.register("features")
@dataclass(frozen=True)
class RowSpec(Normalized):
    """Rows of numbers that a network was made for.

    Args:
        dim: features of a sample.
        mean: of each feature.
        std: of each feature, above 0.
    """

    kind: ClassVar[str] = "features"
    raw_label: ClassVar[str] = "rows as they are"
    raw_feature: ClassVar[str] = "features"
    dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def unmeasured(cls, shape: Sequence[int]) -> RowSpec:
        """Rows of a shape (F,) whose mean and spread are not known: `normalize` gives their values."""
        (dim,) = shape
        return cls(dim, (0.0,) * dim, (1.0,) * dim)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> RowSpec:
        """What `to_dict` described."""
        dim = count(given["dim"])
        return cls(dim, *moments(given, dim))

    @property
    def shape(self) -> tuple[int, ...]:
        """(F,)."""
        return (self.dim,)

    def measured(self, source: Described) -> RowSpec:
        """With the mean and spread of each feature over all samples of a source."""
        mean, std = feature_statistics(source)
        return replace(self, mean=mean, std=std)

    def values(self, batch: Tensor) -> Tensor:
        """The rows as float32."""
        return batch.float()

    def fit(self, batch: Tensor) -> Tensor:
        """The rows as they are: no other number of features can become this one."""
        return batch

    def blank(self, n: int) -> Tensor:
        """Rows of one value each, from 0 to 1."""
        return torch.linspace(0, 1, n).view(n, 1).expand(n, self.dim).contiguous()

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Normal noise."""
        return torch.randn(n, self.dim, generator=generator)

    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Features (B, F), finite, normalised."""
        what = f"features (B, {self.dim})"
        if not isinstance(samples, Tensor) or samples.ndim != 2 or samples.shape[1] != self.dim:
            raise DataError(f"this encoder was made for {what}, got {given_as(samples)}")
        if not bool(torch.isfinite(samples).all()):
            raise DataError(f"this encoder was made for {what} of finite values, got NaN or infinity: fill or leave out such rows")
        return self.normalize(samples)

    def raw(self, batch: Tensor) -> Tensor:
        """The features themselves."""
        return batch.float()

    def describe(self) -> str:
        """How many features."""
        return f"{self.dim} features"

    def check_source(self, source: Described) -> None:
        """Raise DataError for another kind of samples or another number of features."""
        super().check_source(source)
        if source.shape != (self.dim,):
            found = source.shape[0]
            raise DataError(f"{source.name} has {found} features, but the encoder was made for {self.dim}: choose the same columns")
