"""A weak and a strong view of what sensors measure, as TS-TCC has them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.plan import Indices, Plan, Views, drawn
from kinshot.datasets.views.series.amplitude import scaled
from kinshot.datasets.views.series.modalities import Columns, Modalities, check_settings
from kinshot.datasets.views.series.permutation import segment_draws, segment_order
from kinshot.datasets.views.series.reading import take_steps
from kinshot.datasets.views.series.values import jittered
from kinshot.samples.spec import Spec


@VIEWS.register("weak_strong")
class WeakStrong(Views):
    """Two views: every channel of the first by a factor, the second cut in segments that change places, with noise.

    Windows are normalised first, and what was not measured stays so: it keeps its place in the first view and moves with its segment in
    the second. Segments of all channels change places alike, and those of all modalities of a bundle at the same instants, also a camera's
    frames, of which nothing else is altered.

    Paper: Eldele et al., "Time-Series Representation Learning via Temporal and Contextual Contrasting", 2021, arXiv:2106.14112. Defaults:
    those of the authors' code for human activities, factors around 2 among them. Departures: there every step has a factor, one for all
    channels, the strong view's channels are all copies of the first, everything is drawn once for a whole run, and the largest number of
    segments never occurs.

    Args:
        scaling: standard deviation of the factors of the weak view.
        scaling_mean: what these lie around.
        segments: largest number of segments of the strong view, of which there is one at least.
        jitter: standard deviation of its noise, in standard deviations of the channel.
        synchronised: whether the segments of all modalities of a bundle are the same.
    """

    accepts = ("series", "bundle")

    def __init__(
        self,
        input: Spec | Mapping[str, Spec],
        *,
        scaling: float = 1.1,
        scaling_mean: float = 2.0,
        segments: int = 8,
        jitter: float = 0.8,
        synchronised: bool = True,
    ) -> None:
        super().__init__(input, 2)
        wrong = scaling < 0 or jitter < 0 or segments < 1
        problem = f"scaling and jitter must be at least 0 and segments at least 1, got {scaling}, {jitter} and {segments}"
        check_settings("weak_strong", {problem: wrong})
        self._modalities = {field: Modalities("weak_strong", spec) for field, spec in self.fields.items()}
        self.scaling, self.scaling_mean, self.segments, self.jitter = scaling, scaling_mean, segments, jitter
        self.synchronised = synchronised
        self._columns = {field: self._columns_of(modalities) for field, modalities in self._modalities.items()}

    def draw(self, indices: Indices, seed: int, epoch: int) -> Plan:
        """For each field factors, segments and noise."""
        return drawn({field: columns.total for field, columns in self._columns.items()}, self.views, indices, seed, epoch)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """The weak and the strong view of a loaded batch, normalised float32 of its own shape on its device."""
        self.spec_of(field)
        modalities, columns = self._modalities[field], self._columns[field]
        values = modalities.split(samples)
        end, clean = modalities.ends(values), modalities.normalized(values)
        weak, strong = (u.to(samples.device) for u in plan.draws[field])
        first, factors, shaken = next(iter(modalities.steps)), dict(clean), dict(clean)
        for name, steps in modalities.steps.items():
            clock, grid = (first, modalities.grid) if self.synchronised else (name, steps)
            order = segment_order(steps, end, columns.of(strong, f"{clock}/permutation"), grid=grid)
            shaken[name] = take_steps(clean[name], order)
        for name in modalities.series:
            factors[name] = scaled(clean[name], columns.of(weak, f"{name}/scaling"), self.scaling, self.scaling_mean)
            shaken[name] = jittered(shaken[name], columns.of(strong, f"{name}/jitter"), self.jitter)
        return [modalities.join(factors), modalities.join(shaken)]

    def _columns_of(self, modalities: Modalities) -> Columns:
        counts: dict[str, int] = {}
        for name in modalities.steps:
            channels = modalities.series[name].channels if name in modalities.series else 0
            counts |= {f"{name}/scaling": channels, f"{name}/permutation": segment_draws(self.segments)}
        return Columns(counts | {f"{name}/jitter": spec.channels * spec.length for name, spec in modalities.series.items()})
