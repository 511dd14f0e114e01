"""The sensors of a sample, whether it is a series or a bundle of several, and which of its draws belong to which."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.series.reading import measured_end
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec, check_kind, given_as

ALONE = ""
"""What the only sensor of samples that are one series is called."""


class Modalities:
    """What the samples of a field consist of.

    Args:
        views: the registered name of who asks.
        spec: of the field, a series or a bundle.

    Attributes:
        parts: what each modality is, by name.
        series: those that are series.
        steps: of those that have a time, series and frames, how many; what has none is normalised and left as it is.
        grid: the fewest steps of any, at whose instants all can be cut.

    Raises:
        ConfigError: samples of another kind, or a bundle of which nothing has a time.
    """

    def __init__(self, views: str, spec: Spec) -> None:
        check_kind(VIEWS, views, spec)
        self.views, self.spec = views, spec
        self.parts: dict[str, Spec] = spec.modalities if isinstance(spec, BundleSpec) else {ALONE: spec}
        self.series = {name: part for name, part in self.parts.items() if isinstance(part, SeriesSpec)}
        self.steps = {name: part.steps for name, part in self.parts.items() if part.steps}
        if not self.steps:
            raise ConfigError(f"{views} alters what is measured over time, and the samples are {spec.describe()}: choose views=clean")
        self.grid = min(self.steps.values())

    def split(self, batch: Tensor) -> dict[str, Tensor]:
        """A loaded batch as float32 values by modality, each (B, *shape). Raises ConfigError for samples of another form."""
        if batch.shape[1:] != self.spec.shape:
            raise ConfigError(f"{self.views} was made for {self.spec.describe()}, got {given_as(batch)}: make views for these samples")
        values = self.spec.values(batch)
        return self.spec.split(values) if isinstance(self.spec, BundleSpec) else {ALONE: values}

    def normalized(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of every modality, each by its own mean and spread."""
        return {name: self.parts[name].normalize(x) for name, x in values.items()}

    def join(self, found: Mapping[str, Tensor]) -> Tensor:
        """What modalities have become, as the field's samples are given."""
        return self.spec.join(found) if isinstance(self.spec, BundleSpec) else found[ALONE]

    def ends(self, values: Mapping[str, Tensor]) -> Tensor:
        """Which share of each sample's window is measured until the last modality ends, (B,): the rest is padding; 1 where nothing is."""
        end = torch.stack([measured_end(values[name]) for name in self.steps]).amax(dim=0)
        return end.masked_fill(end == 0, 1.0)


class Columns:
    """Which columns of a sample's draws belong to what, so that switching one thing off leaves the draws of all others as they were.

    Args:
        counts: numbers that each thing needs, by name.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._places: dict[str, slice] = {}
        self.total = 0
        for name, count in counts.items():
            self._places[name] = slice(self.total, self.total + count)
            self.total += count

    def of(self, draws: Tensor, name: str) -> Tensor:
        """What of draws (B, D) belongs to a thing."""
        return draws[:, self._places[name]]


def check_settings(views: str, problems: Mapping[str, bool]) -> None:
    """Raise ConfigError with what was expected, for everything that is a problem."""
    found = [expected for expected, wrong in problems.items() if wrong]
    if found:
        raise ConfigError(f"{views}: {'; '.join(found)}")
