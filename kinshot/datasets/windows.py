"""Windows of recordings of several sensors, each at its own rate: planned by seconds, cut when they are loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.datasets.base import Source
from kinshot.datasets.identity import Chunk
from kinshot.datasets.recording import Recording, Track, checked
from kinshot.samples.frames import FramesSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec

_EPS = 1e-6


@dataclass(frozen=True)
class Cut:
    """How windows are cut.

    Args:
        seconds: length of a window; each sensor has as many whole steps as fit into it.
        step: seconds from the begin of a window to that of the next.
        labels: "majority" gives a window the class that holds more than half of it, "pure" only where it holds all of it, and windows
            without a class are left out; "none" keeps all windows and asks for no class.
        grid: where the first window begins: with its "recording", or anew with every of its "stretches" of one class, which leaves
            out what has no class.
        measured: least share of its steps that a sensor must have measured to be present in a window.
        short: whether a recording, or a stretch, that is shorter than a window is left out or filled up at its end with NaN.
        relative: sensors whose windows count as what they are around their own mean (`SeriesSpec.relative`).
    """

    seconds: float
    step: float
    labels: Literal["majority", "pure", "none"] = "majority"
    grid: Literal["recording", "stretches"] = "recording"
    measured: float = 0.5
    short: Literal["leave out", "pad"] = "leave out"
    relative: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (0 < self.seconds < math.inf and 0 < self.step < math.inf):
            raise ConfigError(f"windows: expected seconds and step above 0, got {self.seconds} and {self.step}")
        if not 0 < self.measured <= 1:
            raise ConfigError(f"windows: measured is a share of steps above 0 and up to 1, got {self.measured}")


@dataclass(frozen=True)
class _Placed:
    """Windows of one sensor: first step in the sensor's joined recordings, int64 (N,), and the borders of its recording there."""

    first: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, rows: np.ndarray) -> _Placed:
        return _Placed(self.first[rows], self.low[rows], self.high[rows])


class WindowSource(Source):
    """Windows of recordings, one field of kind series for each sensor, or of kind frames for a camera.

    A sensor that a window's recording lacks, or that measured less of the window than `cut.measured`, is absent (`present`) and loaded as
    NaN; what it lacks of a window else is NaN there. Recordings are held once, and windows are cut from them on load. Attributes:
    `subject` where it is known, `recording`, and `start`, the seconds on the recording's clock, which `clock` says too.

    Args:
        recordings: each with at least one sensor; a sensor has one rate and one number of channels everywhere.
        cut: how windows are cut.
        class_names: that the classes of recordings index; those of which no window is left are left out.
        name: used in messages.
        sensors: those to take, in order; None for all, sorted.
        notes: what a person should know of the recordings.
        keep: which of so many windows are kept, bool; for a split of windows. None for all.

    Raises:
        ConfigError: a sensor that no recording has.
        DataError: recordings that cannot be cut, do not fit together, or leave no window; a sensor that is measured in no window.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        cut: Cut,
        class_names: Sequence[str] = (),
        name: str = "windows",
        sensors: Sequence[str] | None = None,
        notes: Sequence[str] = (),
        keep: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        kept, wanted = _fitting(recordings, sensors, name)
        self.recordings, self.cut = kept, cut
        unknown = [sensor for sensor in cut.relative if sensor not in wanted]
        if unknown:
            raise ConfigError(
                f"{name}: relative names sensors whose windows count around their mean, got {unknown[0]!r}: {suggest(unknown[0], wanted)}"
            )
        lengths = _lengths(kept, wanted, cut, name)
        which, starts, ends, labels, said = _grid(kept, cut, len(class_names))
        if not len(which):
            raise DataError(f"{name}: no window is left{': ' if said else ''}{'; '.join(said)}: take shorter windows or other labels")
        self.values = {sensor: _joined(kept, sensor) for sensor in lengths}
        placed = {sensor: _placed(kept, sensor, which, starts, ends) for sensor in lengths}
        there = {sensor: _present(self.values[sensor], placed[sensor], lengths[sensor], cut.measured) for sensor in lengths}
        rows = np.flatnonzero(np.any(list(there.values()), axis=0))
        if len(rows) < len(which):
            said.append(f"{len(which) - len(rows)} windows are left out, of which no sensor measured a share of {cut.measured:g}")
        rows = rows if keep is None else rows[keep(len(rows))]
        for sensor, has in there.items():
            if not has[rows].any():
                raise DataError(f"{name}: {sensor} is measured in no window: leave it out of the sensors")
            if not has[rows].all():
                said.append(f"{int((~has[rows]).sum())} of {len(rows)} windows lack {sensor}")
            said += _still(sensor, self.values[sensor])
        self._placed = {sensor: found.at(rows) for sensor, found in placed.items()}
        chosen, names, gone = _compact(None if cut.labels == "none" else labels[rows], class_names)
        said += [f"no window of {len(gone)} classes is left: {', '.join(gone)}"] if gone else []
        super().__init__(
            name,
            {
                sensor: _spec(self.values[sensor].shape[1:], length, _rate(kept, sensor), sensor in cut.relative)
                for sensor, length in lengths.items()
            },
            chosen,
            names,
            len(rows),
            present={sensor: has[rows] for sensor, has in there.items() if not has[rows].all()},
            clock=(starts[rows], which[rows]),
            **_attributes(kept, which[rows], starts[rows]),
        )
        self.notes = [*notes, *(note for recording in kept for note in recording.notes), *said]

    def said(self) -> list[str]:
        """What was left out and what some samples lack."""
        return [f"{self.name}: {note}" for note in self.notes]

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        values, placed = self.values[field], self._placed[field].at(rows)
        steps = placed.first[:, None] + np.arange(self.fields[field].shape[1])
        outside = (steps < placed.low[:, None]) | (steps >= placed.high[:, None])
        if field in self.present:
            outside |= ~self.present[field][rows][:, None]
        found = np.moveaxis(values[np.where(outside, 0, steps)], 2, 1)  # channels before time
        found = np.ascontiguousarray(found) if values.dtype == np.float32 else found.astype(np.float32) / 255
        np.moveaxis(found, 1, 2)[outside] = np.nan
        return torch.from_numpy(found)

    def _content(self) -> Iterable[Chunk]:
        for sensor, spec in self.fields.items():
            yield repr(spec.meets).encode()
            values = self.values[sensor]
            yield np.ascontiguousarray(values, dtype="<f4" if values.dtype == np.float32 else np.uint8)
            placed = self._placed[sensor]
            yield np.stack([placed.first, placed.low, placed.high]).astype("<i8")


def _fitting(recordings: Sequence[Recording], sensors: Sequence[str] | None, name: str) -> tuple[list[Recording], list[str]]:
    """The recordings, checked, with the chosen sensors alone, and these; recordings that have none of them are left out."""
    known = {sensor for recording in recordings for sensor in recording.tracks}
    wanted = sorted(known) if sensors is None else list(sensors)
    unknown = [sensor for sensor in wanted if sensor not in known]
    if unknown or len(set(wanted)) != len(wanted):
        got, there = unknown[0] if unknown else f"{', '.join(wanted)}, one of them twice", ", ".join(sorted(known)) or "none"
        raise ConfigError(f"{name}: expected sensors of {there}, got {got}: choose of these, each once")
    names = [recording.name for recording in recordings]
    if len(set(names)) != len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise DataError(f"{name}: two recordings have one name, {twice}: give each its own")
    kept = [
        Recording(one.name, tracks, one.subject, one.stretches, one.classes, one.notes)
        for one in map(checked, recordings)
        if (tracks := {sensor: one.tracks[sensor] for sensor in wanted if sensor in one.tracks})
    ]
    for sensor in wanted:
        for found in (lambda track: f"a rate of {track.rate:g} Hz", _form):
            first: dict[str, str] = {}
            for recording in kept:
                if sensor in recording.tracks:
                    first.setdefault(found(recording.tracks[sensor]), recording.name)
            if len(first) > 1:
                both = " and ".join(f"{what} in {where}" for what, where in list(first.items())[:2])
                raise DataError(f"{name}: {sensor} has {both}: bring them to one, or name them as two sensors")
    return kept, wanted


def _form(track: Track) -> str:
    channels, *size = track.values.shape[1:]
    return f"{channels} channels" if not size else f"frames of {channels} x {size[0]} x {size[1]}"


def _spec(form: Sequence[int], length: int, rate: float, relative: bool) -> Spec:
    """What windows of a sensor are, whose steps have this form."""
    channels, *size = form
    if size:
        return FramesSpec.unmeasured((channels, length, *size), rate)
    return SeriesSpec.unmeasured((channels, length), rate, relative=relative)


def _rate(recordings: Sequence[Recording], sensor: str) -> float:
    return next(recording.tracks[sensor].rate for recording in recordings if sensor in recording.tracks)


def _lengths(recordings: Sequence[Recording], sensors: Sequence[str], cut: Cut, name: str) -> dict[str, int]:
    """Steps of a window for each sensor."""
    lengths = {sensor: math.floor(cut.seconds * _rate(recordings, sensor) + _EPS) for sensor in sensors}
    for sensor, length in lengths.items():
        if length < 1:
            rate = _rate(recordings, sensor)
            raise ConfigError(f"{name}: no step of {sensor} at {rate:g} Hz fits into {cut.seconds:g} s: take longer windows")
    fastest = max(sensors, key=lambda sensor: _rate(recordings, sensor))
    if cut.step * _rate(recordings, fastest) < 1 - _EPS:
        rate = _rate(recordings, fastest)
        raise ConfigError(
            f"{name}: windows {cut.step:g} s apart are less than a step of {fastest} at {rate:g} Hz apart, and would be the same: set step "
            f"to {1 / rate:g} or more"
        )
    return lengths


def _grid(recordings: Sequence[Recording], cut: Cut, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Recording, start, end of its piece and class (-1 for none) of every window that has the class it needs, and what was left out."""
    which, starts, ends, labels, short = [], [], [], [], []
    left, without = 0.0, 0
    for number, recording in enumerate(recordings):
        if cut.labels != "none" and len(recording.classes) and not 0 <= recording.classes.min() <= recording.classes.max() < classes:
            raise DataError(f"recording {recording.name}: its classes are not among the {classes} that have names: name every class")
        pieces = np.array([recording.span]) if cut.grid == "recording" else recording.stretches
        lengths = pieces[:, 1] - pieces[:, 0]
        counts = np.floor((lengths - cut.seconds) / cut.step + _EPS).astype(np.int64) + 1
        counts = np.where(lengths < cut.seconds - _EPS, int(cut.short == "pad"), counts)
        if (lengths < cut.seconds - _EPS).any():
            short.append(f"{recording.name} ({int((lengths < cut.seconds - _EPS).sum())})")
        left += float((lengths - np.where(counts > 0, (counts - 1) * cut.step + cut.seconds, 0)).clip(0).sum())
        piece = np.repeat(np.arange(len(pieces)), counts)
        place = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)
        begun = pieces[piece, 0] + place * cut.step
        own = recording.classes[piece] if cut.grid == "stretches" else _classes(recording, begun, cut, classes)
        kept = np.ones(len(begun), bool) if cut.labels == "none" else own >= 0
        without += int((~kept).sum())
        which.append(np.full(int(kept.sum()), number, np.int64))
        starts.append(begun[kept])
        ends.append(pieces[piece[kept], 1])
        labels.append(own[kept])
    said = []
    if short:
        do = "left out" if cut.short == "leave out" else "filled up with NaN"
        what = "recordings" if cut.grid == "recording" else "stretches of recordings"
        said.append(f"{what} shorter than {cut.seconds:g} s are {do}: {', '.join(short[:8])}{', ...' if len(short) > 8 else ''}")
    if without:
        said.append(f"{without} windows are left out, which have no class by labels={cut.labels}")
    if left > _EPS:
        said.append(f"{left:.4g} s lie in no window, after the last one of a recording or stretch")
    found = [np.concatenate(parts) if parts else np.zeros(0) for parts in (which, starts, ends, labels)]
    return found[0].astype(np.int64), found[1], found[2], found[3].astype(np.int64), said


def _classes(recording: Recording, begun: np.ndarray, cut: Cut, classes: int) -> np.ndarray:
    """The class of each window by `cut.labels`, -1 for none."""
    found, best = np.full(len(begun), -1, np.int64), np.zeros(len(begun))
    for label in np.unique(recording.classes).tolist():
        own = recording.stretches[recording.classes == label]
        knots, before = own.ravel(), np.concatenate([[0.0], np.cumsum(own[:, 1] - own[:, 0])])
        held = np.stack([before[:-1], before[1:]], axis=1).ravel()  # seconds of the class until each begin and end
        inside = np.interp(begun + cut.seconds, knots, held) - np.interp(begun, knots, held)
        found, best = np.where(inside > best, label, found), np.maximum(inside, best)
    enough = best >= cut.seconds - _EPS if cut.labels == "pure" else best > cut.seconds / 2
    return np.where(enough, found, -1)


def _joined(recordings: Sequence[Recording], sensor: str) -> np.ndarray:
    return np.concatenate([recording.tracks[sensor].values for recording in recordings if sensor in recording.tracks])


def _placed(recordings: Sequence[Recording], sensor: str, which: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> _Placed:
    """Where windows lie in a sensor's joined values, up to the `ends` of their pieces; in a recording that lacks it they lie outside."""
    tracks = [recording.tracks.get(sensor) for recording in recordings]
    sizes = np.array([0 if track is None else len(track.values) for track in tracks], dtype=np.int64)
    begins = np.array([0.0 if track is None else track.start for track in tracks])
    low = np.cumsum(sizes) - sizes
    # the first step at or after the window's begin, so that no window reaches before its begin or behind its end
    first, last = (np.ceil((times - begins[which]) * _rate(recordings, sensor) - _EPS).astype(np.int64) for times in (starts, ends))
    return _Placed(low[which] + first, low[which], low[which] + np.clip(last, 0, sizes[which]))


def _present(values: np.ndarray, placed: _Placed, length: int, least: float) -> np.ndarray:
    """Whether at least a share of a window's steps is measured."""
    measured = np.ones(len(values), bool) if values.dtype == np.uint8 else ~np.isnan(values).all(axis=1)
    counts = np.concatenate([[0], np.cumsum(measured)])
    begin, end = (np.clip(steps, placed.low, placed.high) for steps in (placed.first, placed.first + length))
    held = counts[end] - counts[begin]
    return (held > 0) & (held >= least * length - _EPS)


def _still(sensor: str, values: np.ndarray) -> list[str]:
    """What is to be said of channels that measured nothing, or one value alone."""
    low, high = np.fmin.reduce(values), np.fmax.reduce(values)
    dead, still = np.flatnonzero(np.isnan(low)).tolist(), np.flatnonzero(low == high).tolist()
    found = [f"{sensor} never measured channel {', '.join(map(str, dead))}"] if dead else []
    return found + ([f"{sensor} measured one value alone in channel {', '.join(map(str, still))}"] if still else [])


def _compact(labels: np.ndarray | None, class_names: Sequence[str]) -> tuple[np.ndarray | None, list[str], list[str]]:
    """Labels as numbers of the classes that occur, the names of these, and of the others."""
    if labels is None:
        return None, [], []
    found, numbers = np.unique(labels, return_inverse=True)
    gone = [name for label, name in enumerate(class_names) if label not in set(found.tolist())]
    return numbers.astype(np.int64), [class_names[label] for label in found.tolist()], gone


def _attributes(recordings: Sequence[Recording], which: np.ndarray, starts: np.ndarray) -> Mapping[str, Any]:
    subjects = sorted({recording.subject for recording in recordings if recording.subject})
    number = {subject: place for place, subject in enumerate(subjects)}
    attributes = {"recording": which, "start": starts}
    names = {"recording": [recording.name for recording in recordings]}
    if subjects:
        attributes["subject"] = np.array([number.get(recording.subject, -1) for recording in recordings], dtype=np.int64)[which]
        names["subject"] = subjects
    return {"attributes": attributes, "attribute_names": names}
