"""Bundles: what several sensors of one sample measure, side by side in one row of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError, suggest
from kinshot.samples import SPECS
from kinshot.samples.spec import Described, Spec, given_as, spec_from_dict


@SPECS.register("bundle")
@dataclass(frozen=True)
class BundleSpec(Spec):
    """Samples of several modalities, each of a kind of its own, of which any may be absent: float32 (B, N), what is absent all NaN.

    A row holds the values of every modality one after the other, so that whatever handles samples handles these; `split` gives them by
    name. Modalities may differ in channels, rate and length. What is not measured is NaN, which is kept by loading and by `normalize`; a
    modality that is NaN all over is absent.

    Args:
        names: of the modalities.
        parts: what each of them is; kinds whose absence is NaN.
    """

    kind: ClassVar[str] = "bundle"
    absent: ClassVar[float] = math.nan
    raw_label: ClassVar[str] = "hand-made statistics"
    raw_feature: ClassVar[str] = "statistics"
    names: tuple[str, ...]
    parts: tuple[Spec, ...]

    def __post_init__(self) -> None:
        fitting = all(isinstance(part, Spec) and math.isnan(part.absent) and part.kind != self.kind for part in self.parts)
        if not self.names or len(set(self.names)) != len(self.names) or len(self.names) != len(self.parts) or not fitting:
            raise ValueError(f"expected modalities of different names, each with samples that may be missing, got {', '.join(self.names)}")

    @classmethod
    def of(cls, fields: Mapping[str, Spec]) -> BundleSpec:
        """The bundle of some fields of a source, in their order."""
        return cls(tuple(fields), tuple(fields.values()))

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> BundleSpec:
        """What `to_dict` described."""
        parts = given["parts"]
        if not isinstance(parts, list) or not all(isinstance(part, Mapping) and isinstance(part["name"], str) for part in parts):
            raise TypeError(f"expected a list of modalities, each with its name, got {parts!r}")
        return cls(tuple(part["name"] for part in parts), tuple(spec_from_dict(part) for part in parts))

    def to_dict(self) -> dict[str, Any]:
        """Plain data; a list, as the order counts."""
        return {"kind": self.kind, "parts": [{"name": name, **part.to_dict()} for name, part in self.modalities.items()]}

    @property
    def modalities(self) -> dict[str, Spec]:
        """What each modality is, by name."""
        return dict(zip(self.names, self.parts, strict=True))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of each modality in a row."""
        return tuple(math.prod(part.shape) for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,), all modalities together."""
        return (sum(self.sizes),)

    @property
    def seconds(self) -> float:
        """How long the longest modality is; steps each has its own."""
        return max(part.seconds for part in self.parts)

    @property
    def meets(self) -> tuple[Any, ...]:
        """What each modality meets, by name."""
        return (self.kind, *((name, part.meets) for name, part in self.modalities.items()))

    def same_form(self, other: Spec) -> bool:
        """Whether both have the same modalities, in one order, each of the same form."""
        if not isinstance(other, BundleSpec) or self.names != other.names:
            return False
        return all(one.same_form(two) for one, two in zip(self.parts, other.parts, strict=True))

    def split(self, batch: Tensor) -> dict[str, Tensor]:
        """What a batch (B, N) holds of each modality, by name: views (B, *shape) of it, all NaN for those that are absent."""
        columns = batch.split(self.sizes, dim=1)
        return {name: column.unflatten(1, part.shape) for (name, part), column in zip(self.modalities.items(), columns, strict=True)}

    def join(self, given: Mapping[str, Tensor]) -> Tensor:
        """The batch (B, N) of modalities (B, *shape) by name; those that are left out are absent in all samples."""
        like = next(iter(given.values()))
        columns = [
            given[name].flatten(1) if name in given else like.new_full((len(like), size), math.nan)
            for name, size in zip(self.names, self.sizes, strict=True)
        ]
        return torch.cat(columns, dim=1)

    def present(self, batch: Tensor) -> dict[str, Tensor]:
        """Which samples of a batch (B, N) have which modality: bool (B,) by name."""
        return {name: ~values.flatten(1).isnan().all(dim=1) for name, values in self.split(batch).items()}

    def without(self, batch: Tensor, names: Iterable[str]) -> Tensor:
        """A copy of a batch (B, N) in which some modalities are absent. Raises DataError for a name that there is not."""
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise DataError(f"{self.describe()} have no modality {unknown[0]!r}: {suggest(unknown[0], self.names)}")
        return self.join({name: torch.full_like(x, math.nan) if name in names else x for name, x in self.split(batch).items()})

    def measured(self, source: Described) -> BundleSpec:
        """With the mean and spread of every modality over what is measured in all samples of a source."""
        parts = (part.measured(_Modality(source, self, name)) for name, part in self.modalities.items())
        return BundleSpec(self.names, tuple(parts))

    def values(self, batch: Tensor) -> Tensor:
        """The rows as float32, NaN where nothing was measured."""
        return batch.float()

    def normalize(self, batch: Tensor) -> Tensor:
        """A loaded batch with zero mean and unit variance in every channel of every modality: float32, NaN where nothing was measured."""
        return self.join({name: part.normalize(x) for (name, x), part in zip(self.split(batch).items(), self.parts, strict=True)})

    def denormalize(self, x: Tensor) -> Tensor:
        """Values of a normalised batch."""
        return self.join({name: part.denormalize(x) for (name, x), part in zip(self.split(x).items(), self.parts, strict=True)})

    def fit(self, batch: Tensor) -> Tensor:
        """The batch, which must be of this form: a row does not say where its modalities begin (`kinshot.datasets.bundle` brings sources
        of windows of other lengths here). Raises DataError for rows of another width.
        """
        if batch.shape[1:] != self.shape:
            raise DataError(f"expected rows of {self.shape[0]} numbers, which are {self.describe()}, got {given_as(batch)}: split them")
        return batch

    def blank(self, n: int) -> Tensor:
        """Every modality's blank samples."""
        return self.join({name: part.blank(n) for name, part in self.modalities.items()})

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Every modality's noise, one after the other."""
        return self.join({name: part.noise(n, generator) for name, part in self.modalities.items()})

    def prepare(self, samples: Tensor | Sequence[str] | Mapping[str, Tensor]) -> Tensor:
        """Samples of modalities by name, as each of them prepares its own, or rows (B, N): normalised rows.

        Raises:
            DataError: an unknown modality, another form than its own, different numbers of samples, or a sample without any modality.
        """
        if isinstance(samples, Tensor):
            if samples.ndim != 2 or samples.shape[1:] != self.shape or samples.is_complex():
                raise DataError(f"this encoder was made for rows (B, {self.shape[0]}) of {self.describe()}, got {given_as(samples)}")
            samples = self.split(samples)
        if not isinstance(samples, Mapping) or not samples:
            raise DataError(f"this encoder was made for {self.describe()}: give a tensor for each by its name, got {given_as(samples)}")
        unknown = [name for name in samples if name not in self.names]
        if unknown:
            raise DataError(f"this encoder knows no modality {unknown[0]!r}: {suggest(unknown[0], self.names)}")
        found = {name: self.modalities[name].prepare(values) for name, values in samples.items()}
        counts = {name: len(values) for name, values in found.items()}
        if len(set(counts.values())) > 1:
            got = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise DataError(f"every modality needs one row for each sample, got {got}: give absent ones as NaN")
        rows = self.join(found)
        empty = rows.isnan().all(dim=1).nonzero().flatten().tolist()
        if empty:
            raise DataError(f"samples {empty[:8]} have none of {', '.join(self.names)}: leave them out")
        return rows

    def raw(self, batch: Tensor) -> Tensor:
        """Every modality's own reference feature side by side, zeros where it is absent: float32 (B, D)."""
        return torch.cat([part.raw(x) for part, x in zip(self.parts, self.split(self.values(batch)).values(), strict=True)], dim=1)

    def describe(self) -> str:
        """Every modality with what it is."""
        return "bundles of " + " and ".join(f"{name} ({part.describe()})" for name, part in self.modalities.items())

    def check_source(self, source: Described) -> None:
        """Raise DataError for another kind of samples, or a modality that differs in more than the length of its windows."""
        super().check_source(source)
        named = getattr(source.spec, "names", ())
        if named != self.names:
            raise DataError(f"{source.name} has {', '.join(named)}, but the encoder was made for {', '.join(self.names)}: choose those")
        for name, part in self.modalities.items():
            part.check_source(_Modality(source, source.spec, name))  # type: ignore[arg-type]  # it has names


class _Modality:
    """One modality of a source of bundles, as `Described` has it: the samples that have it alone."""

    def __init__(self, source: Described, whole: BundleSpec, name: str) -> None:
        self.source, self.whole, self.modality = source, whole, name
        self.name, self.spec = f"{source.name}, {name}", whole.modalities[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return self.spec.shape

    def __len__(self) -> int:
        return len(self.source)

    def load(self, indices: Any) -> Tensor:
        """The modality's samples at `indices` (B,)."""
        return self.whole.split(self.source.load(np.asarray(indices)))[self.modality]
