"""The schema of a folder of recordings: which columns are a sensor's, and at which rate it measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinshot.core.errors import DataError, suggest
from kinshot.core.small_files import read_json

SCHEMA = "recordings.json"
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_KEYS = ("sensors", "time", "time_unit", "subject", "subjects", "label", "classes")
_SENSOR_KEYS = ("columns", "rate", "time")


@dataclass(frozen=True)
class Sensor:
    """Columns of a sensor, its rate in Hz, and the column of its own times, if it has one."""

    columns: tuple[str, ...]
    rate: float
    time: str = ""


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

    sensors: Mapping[str, Sensor]
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
    given = read_json(path, remedy=f"write what the columns are into {SCHEMA}, as `ssl show recordings` says; set root to its folder")
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


def _sensor(path: Path, name: str, given: Any) -> Sensor:
    what = f"sensors.{name}"
    if not name.isidentifier():
        raise DataError(f"{path}: {what}: names of sensors have letters, digits and _ alone: rename it")
    _check_keys(path, what, given, _SENSOR_KEYS, ("columns", "rate"))
    columns, rate = _texts(path, f"{what}.columns", given["columns"]), given["rate"]
    if not columns:
        raise DataError(f"{path}: {what}.columns names none: give the columns of its channels")
    if type(rate) not in (int, float) or not 0 < rate < 1e9:
        raise DataError(f"{path}: {what}.rate must be a number of Hz above 0, got {rate!r}: correct it")
    return Sensor(columns, float(rate), _text(path, f"{what}.time", given.get("time", "")))


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
