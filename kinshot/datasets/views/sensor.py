"""Random views of what sensors measure over time, whole batches at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.plan import Indices, Plan, Views, drawn
from kinshot.datasets.views.series.clock import Clock
from kinshot.datasets.views.series.hidden import Hidden
from kinshot.datasets.views.series.hiding import absent, dropped_modalities, presence
from kinshot.datasets.views.series.modalities import Columns, Modalities, check_settings
from kinshot.datasets.views.series.reading import read
from kinshot.datasets.views.series.values import Values
from kinshot.datasets.views.series.wearing import Wearing, devices_of
from kinshot.samples.spec import Spec


@VIEWS.register("sensor")
class Sensor(Views):
    """Noise, factors, rotation, warped or permuted time, hidden parts: every usual augmentation of sensor windows, each with its setting.

    A sample's view depends on (seed, view, epoch, index) and its own content, never on its batch. Samples are normalised, so that noise is
    in units of a channel's spread; only rotation acts before, on units in which an axis is as long as another. What was not measured (NaN)
    moves along where time is altered and stays where values are; what a view hides becomes NaN, and of every sensor something is left.

    In a bundle, changes of time are those of one clock: an instant is at the same share of every modality's view, each at a rate of its
    own. All else is drawn for each modality. What lies behind the last measured step of all modalities is padding, and stays at the end.
    Of a camera's frames, time is altered alike, each step showing the nearest frame, and spans of it are hidden; nothing else of them is.

    By default only the mild noise and factors that suit most activities. Rotation and negation take away which way is down, and so
    postures; a flip, which of two opposite movements it is; a permutation, what follows what.

    Paper: Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using Convolutional Neural Networks",
    2017, arXiv:1706.00527
    Paper: Tang, Perez-Pozuelo, Spathis, Mascolo, "Exploring Contrastive Learning in Human Activity Recognition for Healthcare", 2020,
    arXiv:2011.11542

    Args:
        views: number of views of each sample.
        jitter: standard deviation of noise on every value, in standard deviations of the channel.
        scaling: standard deviation of a factor around 1 for every channel.
        rotation: probability of turning devices, the sensors of one by one rotation, in the units of the data.
        rotation_angle: largest angle of a rotation in degrees; all rotations up to it are equally likely, 180 is all there are.
        devices: which modalities of a bundle are on one device, each text as "acc+gyro"; others are never turned.
        negation: probability of the opposite sign, of a whole sensor.
        magnitude_warp: probability of factors that change smoothly along the window.
        magnitude_warp_deviation: standard deviation of these factors around 1.
        frequency_mask: probability of taking out a band of frequencies.
        frequency_share: share of the frequencies that the widest band has.
        phase_shift: probability of turning the phase of all frequencies by one angle.
        flip: probability of reversed time.
        permutation: probability of cutting the window in segments that change places.
        segments: largest number of segments, of which there are 2 at least.
        time_warp: probability of time that runs faster here and slower there.
        time_warp_deviation: standard deviation of the log of its speed.
        knots: places along the window, beside its ends, at which warps of time and magnitude are drawn.
        crop: smallest share of the window that is shown, stretched, in place of the whole; 1 is none less than the whole.
        rate: slowest and fastest clock, as factors of the sensor's rate, log-uniform; a fast one leaves the end of a view empty, NaN.
        channel_shuffle: probability of channels changing places within a sensor, alike in all sensors of a device.
        channel_dropout: probability of hiding a channel; one that is measured stays.
        time_mask: probability of hiding spans of time.
        time_share: smallest and largest share of the window that these spans hide.
        time_spans: largest number of spans.
        modality_dropout: probability of hiding a modality of a bundle; one that there is stays.
        synchronised: whether all modalities of a bundle have one clock.
    """

    accepts = ("series", "bundle")

    def __init__(
        self,
        input: Spec | Mapping[str, Spec],
        *,
        views: int = 2,
        jitter: float = 0.05,
        scaling: float = 0.1,
        rotation: float = 0.0,
        rotation_angle: float = 180.0,
        devices: tuple[str, ...] = (),
        negation: float = 0.0,
        magnitude_warp: float = 0.0,
        magnitude_warp_deviation: float = 0.2,
        frequency_mask: float = 0.0,
        frequency_share: float = 0.3,
        phase_shift: float = 0.0,
        flip: float = 0.0,
        permutation: float = 0.0,
        segments: int = 5,
        time_warp: float = 0.0,
        time_warp_deviation: float = 0.2,
        knots: int = 4,
        crop: float = 1.0,
        rate: tuple[float, float] = (1.0, 1.0),
        channel_shuffle: float = 0.0,
        channel_dropout: float = 0.0,
        time_mask: float = 0.0,
        time_share: tuple[float, float] = (0.1, 0.3),
        time_spans: int = 3,
        modality_dropout: float = 0.0,
        synchronised: bool = True,
    ) -> None:
        super().__init__(input, views)
        self._modalities = {field: Modalities("sensor", spec) for field, spec in self.fields.items()}
        fields = list(self._modalities.values())
        chances = {
            "rotation": rotation, "negation": negation, "magnitude_warp": magnitude_warp, "frequency_mask": frequency_mask,
            "phase_shift": phase_shift, "flip": flip, "permutation": permutation, "time_warp": time_warp,
            "channel_shuffle": channel_shuffle, "channel_dropout": channel_dropout, "time_mask": time_mask,
            "modality_dropout": modality_dropout,
        }  # fmt: skip
        deviations = (jitter, scaling, magnitude_warp_deviation, time_warp_deviation)
        check_settings(
            "sensor",
            {f"{name} is a probability between 0 and 1, got {value}": not 0 <= value <= 1 for name, value in chances.items()}
            | {
                f"views must be at least 1, got {views}": views < 1,
                f"jitter, scaling and the deviations of warps must be at least 0, got {deviations}": min(deviations) < 0,
                f"rotation_angle is in degrees, above 0 and at most 180, got {rotation_angle}": not 0 < rotation_angle <= 180,
                f"segments must be at least 2, got {segments}": segments < 2,
                f"time_spans must be at least 1 and knots at least 0, got {time_spans} and {knots}": time_spans < 1 or knots < 0,
                f"crop is a share of the window, above 0 and at most 1, got {crop}": not 0 < crop <= 1,
                f"rate needs 0 < slowest <= fastest, got {rate}": not 0 < rate[0] <= rate[1],
                f"time_share needs 0 <= smallest <= largest <= 1, got {time_share}": not 0 <= time_share[0] <= time_share[1] <= 1,
                f"frequency_share is a share between 0 and 1, got {frequency_share}": not 0 <= frequency_share <= 1,
                "modality_dropout hides modalities of bundles, and the samples are series: set it to 0": modality_dropout > 0
                and all(len(field.parts) == 1 for field in fields),
            },
        )
        self._clock = Clock(flip, permutation, segments, time_warp, time_warp_deviation, knots, crop, rate)
        self._values = Values(
            jitter, scaling, negation, magnitude_warp, magnitude_warp_deviation, knots, frequency_mask, frequency_share, phase_shift
        )
        device = devices_of("sensor", fields, devices, rotation > 0)
        self._wearing = Wearing(rotation, rotation_angle, channel_shuffle, device)
        self._hidden = Hidden(channel_dropout, time_mask, time_share, time_spans)
        self._modality_dropout, self._synchronised = modality_dropout, synchronised
        self._columns = {field: self._columns_of(modalities) for field, modalities in self._modalities.items()}

    def draw(self, indices: Indices, seed: int, epoch: int) -> Plan:
        """For each field and view all numbers that its changes take."""
        return drawn({field: columns.total for field, columns in self._columns.items()}, self.views, indices, seed, epoch)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """`views` random views of a loaded batch, normalised float32 of its own shape on its device."""
        self.spec_of(field)
        modalities = self._modalities[field]
        values = modalities.split(samples)
        end = modalities.ends(values) if self._clock.running or self._hidden.timed else samples.new_ones(len(samples))
        return [self._view(field, values, end, u.to(samples.device)) for u in plan.draws[field]]

    def _view(self, field: str, values: Mapping[str, Tensor], end: Tensor, u: Tensor) -> Tensor:
        modalities, draws = self._modalities[field], partial(self._columns[field].of, u)
        found = modalities.normalized({name: self._wearing.turned(name, x, draws) for name, x in values.items()})
        at = self._positions(modalities, end, draws)
        for name in modalities.steps:
            x = read(found[name], at[name]) if at else found[name]
            if name in modalities.series:
                x = self._values.altered(self._wearing.shuffled(name, x, draws), _under(name, draws))
            found[name] = self._hidden.applied(x, end, _under(name, draws))
        if self._modality_dropout > 0:
            found = absent(found, dropped_modalities(presence(found), draws("modality_dropout"), self._modality_dropout))
        return modalities.join(found)

    def _positions(self, modalities: Modalities, end: Tensor, draws: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """Where each modality is read, by name; nothing where no clock runs."""
        steps, found = modalities.steps, {}
        if self._clock.running and not self._synchronised:
            found = {name: self._clock.positions(count, end, count, _under(name, draws)) for name, count in steps.items()}
        elif self._clock.running:
            first = _under(next(iter(steps)), draws)
            of = {count: self._clock.positions(count, end, modalities.grid, first) for count in set(steps.values())}
            found = {name: of[count] for name, count in steps.items()}
        return found

    def _columns_of(self, modalities: Modalities) -> Columns:
        counts = self._wearing.draws(modalities) | {"modality_dropout": len(modalities.parts)}
        for name in modalities.steps:
            channels = modalities.series[name].channels if name in modalities.series else 0
            needed = self._clock.draws | self._values.draws(channels) | self._hidden.draws(channels)
            counts |= {f"{name}/{change}": count for change, count in needed.items()}
        if self._values.jitter > 0:  # last, as there are many of it, and none where it is off
            counts |= {f"{name}/jitter": spec.channels * spec.length for name, spec in modalities.series.items()}
        return Columns(counts)


def _under(name: str, draws: Callable[[str], Tensor]) -> Callable[[str], Tensor]:
    """What a modality's own numbers are, by change."""
    return lambda change: draws(f"{name}/{change}")
