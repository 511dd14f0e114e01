"""What is known of samples modality by modality: an encoder's features, statistics made by hand, or lengths; and how subsets become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import cast

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.base import Source
from kinshot.encoders.fused_bundle import FusedBundle
from kinshot.fewshot.linear_probe import Scaling
from kinshot.learn.features import cached_features, extract, weights_hash
from kinshot.learn.model import Model
from kinshot.objectives.common import unit
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec

_MOST = 6
_PRESENT = "present"


@dataclass(frozen=True)
class Known:
    """What is known of N samples of M modalities.

    Args:
        features: (N, D_m) by modality, zero for samples that lack it.
        present: which samples have which modality, bool (N, M).
        fuse: makes one feature (n, D) of such features and bool (n, M) of what is there, as whoever gave them does.
    """

    features: Mapping[str, Tensor]
    present: np.ndarray
    fuse: Callable[[Mapping[str, Tensor], np.ndarray], Tensor]

    def fused(self, rows: np.ndarray, subset: np.ndarray) -> Tensor:
        """The feature of samples `rows` as if they had only the modalities `subset`, bool (M,) or (n, M)."""
        chosen = torch.from_numpy(rows)
        return self.fuse({name: values[chosen] for name, values in self.features.items()}, self.present[rows] & subset)


@dataclass(frozen=True)
class Masked:
    """Features of unit spread, modality by modality, of which any subset is taken: their mean, or side by side with zeros for the others.

    Args:
        columns: (N, D_m) of every modality, standardised over the training samples that have it.
        mean: take the mean, for modalities of one width.
    """

    columns: tuple[Tensor, ...]
    mean: bool

    @classmethod
    def of(cls, known: Known, scalings: Sequence[Scaling], mean: bool) -> Masked:
        """Those of samples, by the scalings of the training samples."""
        return cls(tuple(scaling(values) for scaling, values in zip(scalings, known.features.values(), strict=True)), mean)

    def __call__(self, rows: np.ndarray, there: np.ndarray) -> Tensor:
        """The feature of samples `rows` with the modalities `there`, bool (n, M), of which each has one at least: (n, D)."""
        chosen, mask = torch.from_numpy(rows), torch.from_numpy(there)
        parts = [torch.where(mask[:, m : m + 1], values[chosen], 0.0) for m, values in enumerate(self.columns)]
        return torch.stack(parts).sum(0) / mask.sum(1, keepdim=True) if self.mean else torch.cat(parts, dim=1)


def scalings_of(known: Known) -> list[Scaling]:
    """For every modality that of the samples that have it."""
    return [Scaling.of(values[torch.from_numpy(known.present[:, m])]) for m, values in enumerate(known.features.values())]


def subsets_of(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Every non-empty subset as bool (M,), by its name: single ones first, then larger ones. Raises ConfigError for too many modalities."""
    if len(names) > _MOST:
        raise ConfigError(
            f"{len(names)} modalities have {2 ** len(names) - 1} subsets: study at most {_MOST}, by choosing sensors of the data"
        )
    chosen = [places for size in range(1, len(names) + 1) for places in combinations(range(len(names)), size)]
    return {"+".join(names[place] for place in places): np.isin(np.arange(len(names)), places) for places in chosen}


def encoder_of_bundles(model: Model, name: str) -> FusedBundle:
    """The encoder of a model. Raises ConfigError where it takes samples of one modality."""
    if not isinstance(model.encoder, FusedBundle) or len(model.encoder.input.names) < 2:
        raise ConfigError(
            f"{name} takes {model.input.describe()}, which have one modality, so that none can be missing: give runs whose encoder is fused"
        )
    return model.encoder


def of_encoder(model: Model, source: Source, name: str, device: torch.device) -> Known:
    """What an encoder says of every modality of a source's samples; kept in the cache of features."""
    encoder = encoder_of_bundles(model, name)
    names = encoder.input.names

    def embed(batch: Tensor) -> dict[str, Tensor]:
        found = {f"of {name}": values for name, values in encoder.features(model.prepare(batch)).items()}
        return {**found, _PRESENT: _presence(source, batch)}

    key = {
        "what": "features of modalities",
        "weights": weights_hash(encoder.state_dict()),
        "architecture": repr(encoder),
        "input": repr(model.input),
        "source": source.fingerprint(),
        "device": device.type,
    }
    model.to(device).eval()
    found = cached_features(key, lambda: extract(embed, source, lambda batch: batch, device=device))

    def fuse(features: Mapping[str, Tensor], there: np.ndarray) -> Tensor:
        mask = {name: torch.from_numpy(there[:, m]) for m, name in enumerate(names)}
        with torch.no_grad():
            return encoder.cpu().fused.join(features, mask)

    return Known({name: unit(found[f"of {name}"]) for name in names}, found[_PRESENT].numpy() > 0, fuse)


def of_statistics(source: Source) -> Known:
    """Statistics of every modality of a source's samples, as `Spec.raw` makes them."""
    return _of_samples(source, lambda part, values: part.raw(values))


def of_lengths(source: Source) -> Known:
    """How long the windows of every modality are: the time of the last measured step, in seconds."""
    return _of_samples(source, _length)


def lengths_vary(known: Known) -> bool:
    """Whether samples that have a modality differ in its length."""
    return any(len(values[torch.from_numpy(known.present[:, m])].unique()) > 1 for m, values in enumerate(known.features.values()))


def _of_samples(source: Source, of: Callable[[Spec, Tensor], Tensor]) -> Known:
    spec = bundles_of(source)
    found: dict[str, list[Tensor]] = {name: [] for name in spec.names}
    there = []
    for rows in torch.arange(len(source)).split(1024):
        batch = source.load(rows)
        for (name, part), values in zip(spec.modalities.items(), spec.split(spec.values(batch)).values(), strict=True):
            found[name].append(of(part, values))
        there.append(_presence(source, batch))
    return Known({name: torch.cat(values) for name, values in found.items()}, torch.cat(there).numpy() > 0, _side_by_side)


def _side_by_side(features: Mapping[str, Tensor], there: np.ndarray) -> Tensor:
    """Columns side by side, zeros for what is absent."""
    mask = torch.from_numpy(there)
    return torch.cat([torch.where(mask[:, m : m + 1], values, 0.0) for m, values in enumerate(features.values())], dim=1)


def _length(part: Spec, values: Tensor) -> Tensor:
    if not isinstance(part, SeriesSpec):
        return values.new_zeros(len(values), 1)
    measured = (~values.isnan()).any(dim=1)
    steps = torch.arange(1, values.shape[2] + 1, device=values.device)
    return (measured * steps).amax(dim=1, keepdim=True) / part.rate


def bundles_of(source: Source) -> BundleSpec:
    """What the samples of a source are that an encoder of bundles takes."""
    return cast(BundleSpec, source.spec)


def _presence(source: Source, batch: Tensor) -> Tensor:
    """float (n, M): 1 where a sample has a modality."""
    return torch.stack(list(bundles_of(source).present(batch).values()), dim=1).float()
