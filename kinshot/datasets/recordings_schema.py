"""The schema of a folder of recordings: which columns, or which files, are a sensor's, and at which rate it measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from kinshot.core.errors import DataError, suggest
from kinshot.core.small_files import read_json

SCHEMA = "recordings.json"
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_KEYS = ("sensors", "time", "time_unit", "subject", "subjects", "label", "classes")
_SENSOR_KEYS = ("columns", "rate", "time")
_SOUND_KEYS = ("wav", "mels", "window", "hop", "low", "high")
_FRAME_KEYS = ("frames", "rate", "size", "channels")
NAME = "{name}"
"""What stands for the name of a recording's table, without its ending, in the names of files beside it."""


@dataclass(frozen=True)
class Sensor:
    """Columns of a sensor, its rate in Hz, and the column of its own times, if it has one."""

    columns: tuple[str, ...]
    rate: float
    time: str = ""


@dataclass(frozen=True)
class SoundSensor:
    """A microphone: the WAV file beside a table, by a pattern with `NAME`, and what `kinshot.datasets.log_mel` makes of it."""

    wav: str
    mels: int = 64
    window: float = 0.025
    hop: float = 0.01
    low: float = 125.0
    high: float = 7500.0


@dataclass(frozen=True)
class FrameSensor:
    """A camera: the folder of images beside a table, by a pattern with `NAME`, their rate in Hz, side in pixels and channels."""

    frames: str
    rate: float
    size: int = 32
    channels: int = 3


AnySensor = Sensor | SoundSensor | FrameSensor


@dataclass(frozen=True)
class Schema:
    """What recordings.json says.

    Args:
        sensors: by name.
        time: column of the times of all sensors that name none; empty without.
        seconds: of one unit of the times.
        subject: column that says who was recorded; empty without.
        subjects: who was recorded, by file.
        label: column of classes; empty without.
        classes: their order; empty for sorted.
    """

    sensors: Mapping[str, AnySensor]
    time: str = ""
    seconds: float = 1.0
    subject: str = ""
    subjects: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    classes: tuple[str, ...] = ()


def read_schema(place: Path) -> Schema:
    """The schema of a folder. Raises DataError, naming key and value, where it is missing or says something else."""
    path = place / SCHEMA
    if not place.is_dir():
        raise DataError(f"there is no folder {place}: set root to a folder with {SCHEMA} and recordings")
    remedy = f"write what the columns are into {SCHEMA}, as `ssl show recordings` says; set root to its folder"
    given = read_json(path, remedy=remedy, once=True)
    _check_keys(path, "the schema", given, _KEYS, ("sensors",))
    _check_keys(path, "sensors", given["sensors"], None, ())
    sensors = {name: _sensor(path, name, about) for name, about in given["sensors"].items()}
    if not sensors:
        raise DataError(f"{path}: sensors names none: give each its columns and rate")
    unit = _text(path, "time_unit", given.get("time_unit", "s"))
    if unit not in _UNITS:
        raise DataError(f"{path}: time_unit {unit!r} is none: {suggest(unit, _UNITS)}")
    subjects = given.get("subjects", {})
    _check_keys(path, "subjects", subjects, None, ())
    return Schema(
        sensors,
        _text(path, "time", given.get("time", "")),
        _UNITS[unit],
        _text(path, "subject", given.get("subject", "")),
        {name: _text(path, f"subjects.{name}", subject) for name, subject in subjects.items()},
        _text(path, "label", given.get("label", "")),
        _texts(path, "classes", given.get("classes", [])),
    )


def _sensor(path: Path, name: str, given: Any) -> AnySensor:
    what = f"sensors.{name}"
    if not name.isidentifier():
        raise DataError(f"{path}: {what}: names of sensors have letters, digits and _ alone: rename it")
    if isinstance(given, dict) and "wav" in given:
        return _sound(path, what, given)
    if isinstance(given, dict) and "frames" in given:
        return _frames(path, what, given)
    _check_keys(path, what, given, _SENSOR_KEYS, ("columns", "rate"))
    columns = _texts(path, f"{what}.columns", given["columns"])
    if not columns:
        raise DataError(f"{path}: {what}.columns names none: give the columns of its channels")
    return Sensor(columns, _positive(path, f"{what}.rate", given["rate"], "Hz"), _text(path, f"{what}.time", given.get("time", "")))


def _sound(path: Path, what: str, given: Mapping[str, Any]) -> SoundSensor:
    _check_keys(path, what, given, _SOUND_KEYS, ("wav",))
    mels, low = _whole(path, f"{what}.mels", given.get("mels", SoundSensor.mels), "bands", 1024), given.get("low", SoundSensor.low)
    if low != 0 or type(low) is bool:
        low = _positive(path, f"{what}.low", low, "Hz")
    window, hop = (_positive(path, f"{what}.{key}", given.get(key, getattr(SoundSensor, key)), "seconds") for key in ("window", "hop"))
    high = _positive(path, f"{what}.high", given.get("high", SoundSensor.high), "Hz")
    if low >= high:
        raise DataError(f"{path}: {what}.low must lie below high, got {low:g} and {high:g} Hz: correct one")
    return SoundSensor(_pattern(path, f"{what}.wav", given["wav"]), mels, window, hop, float(low), high)


def _frames(path: Path, what: str, given: Mapping[str, Any]) -> FrameSensor:
    _check_keys(path, what, given, _FRAME_KEYS, ("frames", "rate"))
    rate, size = _positive(path, f"{what}.rate", given["rate"], "Hz"), given.get("size", FrameSensor.size)
    channels = given.get("channels", FrameSensor.channels)
    if type(channels) is not int or channels not in (1, 3):
        raise DataError(f"{path}: {what}.channels must be 1 for gray or 3 for colour, got {channels!r}: correct it")
    return FrameSensor(
        _pattern(path, f"{what}.frames", given["frames"]), rate, _whole(path, f"{what}.size", size, "pixels", 4096), channels
    )


def _pattern(path: Path, what: str, value: Any) -> str:
    """The name of files beside tables."""
    pattern = PurePosixPath(_text(path, what, value))
    if NAME not in pattern.as_posix() or pattern.is_absolute() or ".." in pattern.parts:
        need = f"a name relative to a table's folder, with {NAME} for the table's own"
        raise DataError(f"{path}: {what} must be {need}, got {value!r}: write for example {NAME}{pattern.suffix}")
    return pattern.as_posix()


def _whole(path: Path, what: str, value: Any, unit: str, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise DataError(f"{path}: {what} must be a whole number of {unit} from 1 to {most}, got {value!r}: correct it")
    return value


def _positive(path: Path, what: str, value: Any, unit: str) -> float:
    if type(value) not in (int, float) or not 0 < value < 1e9:
        raise DataError(f"{path}: {what} must be a number of {unit} above 0, got {value!r}: correct it")
    return float(value)


def _check_keys(path: Path, what: str, given: Any, known: tuple[str, ...] | None, needed: tuple[str, ...]) -> None:
    if not isinstance(given, dict):
        raise DataError(f"{path}: {what} must be an object with names, got {type(given).__name__}: correct it")
    for key in given:
        if known is not None and key not in known:
            raise DataError(f"{path}: {what} has the unknown key {key!r}: {suggest(key, known)}")
    for key in needed:
        if key not in given:
            raise DataError(f"{path}: {what} lacks {key!r}: add it")


def _text(path: Path, what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{path}: {what} must be a text, got {value!r}: put it into quotes")
    return value


def _texts(path: Path, what: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or len(set(value)) != len(value):
        raise DataError(f"{path}: {what} must be a list of different texts, got {value!r}: correct it")
    return tuple(value)
