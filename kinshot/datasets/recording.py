"""What sensors measured in one go: a track for each sensor on one clock, who wore them, and what was done when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kinshot.core.errors import ConfigError, DataError

RATE_TOLERANCE = 0.02
"""How far the rate that timestamps say may lie from the declared one, as a share of it."""

_FORMS = ((2, np.dtype(np.float32)), (4, np.dtype(np.uint8)))
_NEAR = 0.75
_GAP = 1.5
# a track is held step by step: gaps may make it so many times as long as what was measured, or at least so many steps
_SPARSE, _MANY = 100, 10**7


@dataclass(frozen=True)
class Track:
    """What one sensor measured: steps at a fixed rate, the first at `start`.

    Args:
        values: float32 (steps, C), NaN where nothing was measured; or frames of a camera, uint8 (steps, C, H, W).
        rate: steps in a second, in Hz.
        start: time of the first step on the recording's clock, in seconds.
    """

    values: np.ndarray
    rate: float
    start: float = 0.0

    @property
    def end(self) -> float:
        """Time at which the step after the last one would be."""
        return self.start + len(self.values) / self.rate


@dataclass(frozen=True)
class Recording:
    """One session of one person; windows are cut inside it and never across its border.

    Args:
        name: what messages and the attribute `recording` call it; one name to a recording.
        tracks: by sensor.
        subject: who was recorded; empty where nobody knows.
        stretches: begin and end, in seconds, of every time whose class is known, float64 (S, 2); in order, none reaches into the next.
        classes: the class of each stretch, int64 (S,).
        notes: what a person should know of how it was read.
    """

    name: str
    tracks: Mapping[str, Track]
    subject: str = ""
    stretches: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    notes: tuple[str, ...] = ()

    @property
    def span(self) -> tuple[float, float]:
        """When the first sensor began and the last one ended."""
        return min(track.start for track in self.tracks.values()), max(track.end for track in self.tracks.values())


def checked(recording: Recording) -> Recording:
    """The same. Raises DataError, naming recording and sensor, for what cannot be cut into windows."""
    if not recording.tracks:
        raise DataError(f"recording {recording.name} has no sensor: leave it out")
    for sensor, track in recording.tracks.items():
        where = f"recording {recording.name}, {sensor}"
        if not (math.isfinite(track.rate) and track.rate > 0 and math.isfinite(track.start)):
            got = f"{track.rate:g} and {track.start:g}"
            raise DataError(f"{where}: expected a rate in Hz above 0 and a start in seconds, got {got}: correct it")
        if (track.values.ndim, track.values.dtype) not in _FORMS or 0 in track.values.shape:
            got = f"{track.values.dtype} {track.values.shape}"
            need = "float32 (steps, channels), or uint8 (steps, channels, height, width), with at least one of each"
            raise DataError(f"{where}: expected {need}, got {got}: convert it or leave it out")
        if np.isinf(track.values).any():
            step, channel = (int(place) for place in np.argwhere(np.isinf(track.values))[0])
            raise DataError(f"{where}: step {step}, channel {channel} is infinite: write NaN, or an empty cell, where nothing was measured")
    begins, ends = recording.stretches[:, 0], recording.stretches[:, 1]
    if len(recording.classes) != len(begins) or not np.isfinite(recording.stretches).all() or (begins >= ends).any():
        raise DataError(f"recording {recording.name}: every stretch of a class needs a begin before its end: correct its labels")
    if (begins[1:] < ends[:-1] - 1e-9).any():
        second = float(begins[1:][begins[1:] < ends[:-1] - 1e-9][0])
        raise DataError(f"recording {recording.name}: the stretch from {second:g} s begins before the last one ends: correct its labels")
    return recording


def check_sensors(name: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raises ConfigError, naming the source, unless some of the known sensors are given, each once."""
    if not given or len(set(given)) != len(given) or not set(given) <= set(known):
        got = ", ".join(given) or "none"
        raise ConfigError(f"{name}: expected sensors of {', '.join(known)}, each once, got {got}: choose of these")


def track_at(times: np.ndarray, values: np.ndarray, rate: float, where: str, tolerance: float = RATE_TOLERANCE) -> tuple[Track, list[str]]:
    """A track of what was measured at given times, and what should be said of it.

    Every step takes the measurement nearest in time, if it lies within three quarters of a step, and is NaN otherwise: a gap in the
    timestamps stays a gap, and a clock that runs a little fast or slow leaves out or repeats a measurement now and then.

    Args:
        times: of the measurements, in seconds, float64 (n,).
        values: float32 (n, C).
        rate: that steps are to have, in Hz.
        where: the file and the sensor, for messages.
        tolerance: how far the rate of the timestamps, gaps left out, may lie from `rate`, as a share of it.

    Raises:
        DataError: times that are not finite, go back, occur twice, say another rate, or leap so far that next to nothing is measured.
    """
    if not np.isfinite(times).all():
        raise DataError(f"{where}: row {int(np.argmin(np.isfinite(times)))} has no time: fill it in or leave the row out")
    between = np.diff(times)
    if (between <= 0).any():
        row = int(np.argmax(between <= 0)) + 1
        how, remedy = ("occurs twice", "leave one out") if between[row - 1] == 0 else ("goes back", "sort the rows by time")
        raise DataError(f"{where}: the time {how} at row {row} ({times[row - 1]:.6g} s, then {times[row]:.6g} s): {remedy}")
    if len(between):
        said = 1 / float(between[between <= _GAP * np.median(between)].mean())
        if abs(said - rate) > tolerance * rate:
            raise DataError(
                f"{where}: the rate is declared as {rate:g} Hz, and the timestamps say {said:.4g} Hz, more than {tolerance:.0%} off: "
                "correct the rate, or the unit of the times, which are seconds"
            )
    count = int((times[-1] - times[0]) * rate + 0.5) + 1
    if count > max(_SPARSE * len(times), _MANY):
        row = int(np.argmax(between))
        raise DataError(
            f"{where}: the time leaps from {times[row]:.6g} s to {times[row + 1]:.6g} s at row {row + 1}, and {len(times)} measurements "
            f"would lie in {count} steps: correct the time, or make two recordings of it"
        )
    steps = times[0] + np.arange(count) / rate
    after = np.clip(np.searchsorted(times, steps), 1, max(len(times) - 1, 1)) if len(times) > 1 else np.zeros(len(steps), np.int64)
    nearest = np.where(steps - times[after - 1] <= times[after] - steps, after - 1, after) if len(times) > 1 else after
    measured = np.abs(times[nearest] - steps) * rate <= _NEAR
    found = np.where(measured[:, None], values[nearest], np.float32(np.nan))
    used = np.bincount(nearest[measured], minlength=len(times))
    counts = {
        "steps lie in gaps of the timestamps": int((~measured).sum()),
        "measurements are repeated": int((used > 1).sum()),
        "measurements are left out": int((used == 0).sum()),
    }
    notes = [f"{where}: {count} {what}" for what, count in counts.items() if count]
    return Track(found, rate, float(times[0])), notes


def runs(labels: np.ndarray, start: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Stretches (S, 2) in seconds, and their classes (S,), of a label for every step, int64 (n,) with -1 for unknown."""
    borders = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1 if len(labels) else 0))
    ends = np.append(borders[1:], len(labels))
    known = labels[borders] >= 0 if len(labels) else np.zeros(0, bool)
    stretches = start + np.stack([borders, ends], axis=1)[known] / rate if len(labels) else np.zeros((0, 2))
    return stretches, labels[borders][known].astype(np.int64)
