"""One recording of a folder: its table, and the files of sensors beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import is_numeral, read_arrays
from kinshot.datasets.beside_tables import read_beside
from kinshot.datasets.recording import Recording, Track, track_at
from kinshot.datasets.recordings_schema import SCHEMA, Schema, Sensor
from kinshot.datasets.table_files import Column, read_columns

_EMPTY = ("", "nan", "NaN", "NA", "null")


@dataclass(frozen=True)
class Read:
    """A recording, its stretches (S, 2) with the names of their classes, and the files beside its table that it was read from."""

    recording: Recording
    stretches: np.ndarray
    names: list[str]
    files: frozenset[Path]


@dataclass(frozen=True)
class _Table:
    """What a table says of the sensors whose columns it has.

    Args:
        tracks: by sensor.
        steps: times of all rows of a sensor, measured or not, in seconds.
        untimed: the sensors of which it says no times.
        notes: what a person should know of it.
    """

    tracks: Mapping[str, Track]
    steps: Mapping[str, np.ndarray]
    untimed: tuple[str, ...]
    notes: list[str]


def read_recording(path: Path, inside: Path, schema: Schema, tolerance: float) -> Read:
    """The recording of one table.

    Args:
        path: of the table.
        inside: the same below the folder of the schema, for names.
        schema: what columns and files are.
        tolerance: how far timestamps may lie from a sensor's rate, as a share of it.

    Raises:
        DataError: naming the file.
    """
    one_table = path.suffix.lower() != ".npz"
    columns: Mapping[str, Column] = read_columns(path) if one_table else read_arrays(path)
    table = _table(path, inside, schema, columns, tolerance)
    beside = {name: read_beside(path, name, sensor) for name, sensor in schema.sensors.items() if not isinstance(sensor, Sensor)}
    tracks = {**table.tracks, **{name: found.track for name, found in beside.items() if found.track is not None}}
    if not tracks and table.notes:
        raise DataError(f"{path} measured nothing: {'; '.join(table.notes)}; leave the file out")
    if not tracks:
        raise DataError(
            f"{path} has the columns of no sensor of {SCHEMA}: it has {', '.join(columns) or 'none'}"
            f"{'; nor has it files beside it' if beside else ''}; correct the schema"
        )
    if one_table:
        _check_rates(path, {name: table.tracks[name].rate for name in table.untimed})
    _check_lengths(path, {name: track for name, track in tracks.items() if name in beside or name in table.untimed}, tolerance)
    stem = inside.with_suffix("").as_posix()
    subject = schema.subjects.get(inside.as_posix(), schema.subjects.get(stem, "")) or _subject(path, schema.subject, columns)
    stretches, names = _stretches(path, schema, columns, tracks, table.steps)
    notes = [*table.notes, *(f"{inside}: {note}" for found in beside.values() for note in found.notes)]
    if schema.label and schema.label not in columns:
        notes.append(f"{inside} lacks the column {schema.label!r}: nobody knows its classes")
    recording = Recording(stem, tracks, subject, notes=tuple(notes))
    return Read(recording, stretches, names, frozenset(file for found in beside.values() for file in found.files))


def _table(path: Path, inside: Path, schema: Schema, columns: Mapping[str, Column], tolerance: float) -> _Table:
    """What a table says of its sensors."""
    found: dict[str, tuple[np.ndarray, np.ndarray | None, float]] = {}
    for name, sensor in schema.sensors.items():
        if isinstance(sensor, Sensor) and (values := _values(path, name, sensor, columns)) is not None:
            found[name] = values, _times(path, sensor.time or schema.time, columns, len(values)), sensor.rate
    if not found and schema.time in columns:  # it says classes alone, at times that count from the begin of what lies beside it
        return _Table({}, {schema.time: _numbers(path, schema.time, columns[schema.time]) * schema.seconds}, (), [])
    # the clock of a recording begins with it: seconds since 1970 leave a float too few digits for a step
    zero = min((float(np.nanmin(times)) for _, times, _ in found.values() if times is not None and np.isfinite(times).any()), default=0.0)
    tracks: dict[str, Track] = {}
    steps: dict[str, np.ndarray] = {}
    notes: list[str] = []
    for name, (values, times, rate) in found.items():
        some = ~np.isnan(values).all(axis=1)
        if times is None:
            tracks[name], steps[name] = Track(values, rate), np.arange(len(values)) / rate
        elif some.any():
            steps[name] = (times - zero) * schema.seconds
            tracks[name], said = track_at(steps[name][some], values[some], rate, f"{path}, {name}", tolerance)
            notes += said
        else:
            notes.append(f"{inside}: {name} is empty, and counts as missing")
    return _Table(tracks, steps, tuple(name for name, (_, times, _) in found.items() if times is None), notes)


def _values(path: Path, name: str, sensor: Sensor, columns: Mapping[str, Column]) -> np.ndarray | None:
    """What a sensor measured, float32 (n, C), or None where the file lacks all of its columns."""
    there = [column for column in sensor.columns if column in columns]
    if not there:
        return None
    if len(there) < len(sensor.columns):
        gone = next(column for column in sensor.columns if column not in columns)
        raise DataError(f"{path} has column {there[0]!r} of {name} and lacks {gone!r}: add it, or leave out all columns of {name}")
    parts = [_numbers(path, column, columns[column]) for column in sensor.columns]
    parts = [part[:, None] if part.ndim == 1 else part for part in parts]
    if len({len(part) for part in parts}) > 1 or any(part.ndim != 2 for part in parts):
        got = ", ".join(f"{column} {part.shape}" for column, part in zip(sensor.columns, parts, strict=True))
        raise DataError(f"{path}: the columns of {name} need one length, (n,) or (n, channels), got {got}: cut or fill them up")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused by its step
        return np.concatenate(parts, axis=1).astype(np.float32)


def _numbers(path: Path, name: str, column: Column) -> np.ndarray:
    """A column as float64, NaN where it is empty."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        return np.atleast_1d(column).astype(np.float64)
    filled = ["nan" if text in _EMPTY else text for text in _texts(path, name, column)]
    try:
        if _as_programs_write("".join(filled)):
            return np.array(filled, dtype=np.float64)
    except ValueError:
        pass
    row = next((row for row, text in enumerate(filled) if not is_numeral(text)), None)
    if row is not None:
        raise DataError(f"{path}: {name!r} is {filled[row]!r} in row {row + 1} of its values, no number: correct it or empty the cell")
    return np.array(filled, dtype=np.float64)


def _as_programs_write(text: str) -> bool:
    """Whether a text can only hold numbers as programs write them: float() would also take 1_000 and digits of other scripts."""
    return text.isascii() and "_" not in text


def _texts(path: Path, name: str, column: Column) -> list[str]:
    """A column as texts; whole numbers without a point, so that 7 and 7.0 are one name."""
    if isinstance(column, list):
        return [text.strip() for text in column]
    if column.dtype.kind not in "biufU":
        raise DataError(f"{path}: {name!r} holds neither numbers nor texts: save it as numbers, or as texts")
    values = np.ravel(column).tolist()
    return [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip() for value in values]


def _names(path: Path, name: str, column: Column) -> list[str]:
    """A column of names, empty where it says nothing."""
    return ["" if text in _EMPTY else text for text in _texts(path, name, column)]


def _times(path: Path, name: str, columns: Mapping[str, Column], rows: int) -> np.ndarray | None:
    """The time of each row, in the unit of the file; None where the schema names no times."""
    if not name:
        return None
    if name not in columns:
        raise DataError(f"{path} lacks the column {name!r} of times: add it, or leave time out of {SCHEMA}")
    found = _numbers(path, name, columns[name])
    if found.shape != (rows,):
        raise DataError(f"{path}: {name!r} has {len(found)} times for {rows} rows of a sensor: name each sensor's own time in {SCHEMA}")
    return found


def _check_rates(path: Path, rates: Mapping[str, float]) -> None:
    """Raises DataError where sensors of one table without timestamps have several rates."""
    if len(set(rates.values())) > 1:
        got = ", ".join(f"{name} {rate:g} Hz" for name, rate in rates.items())
        raise DataError(f"{path}: sensors of several rates in one table ({got}) need a column of times: name it as time in {SCHEMA}")


def _check_lengths(path: Path, tracks: Mapping[str, Track], tolerance: float) -> None:
    """Raises DataError where sensors without timestamps cannot have been measured side by side."""
    lasts = {name: track.end for name, track in tracks.items()}
    slowest = min((track.rate for track in tracks.values()), default=1.0)
    if lasts and max(lasts.values()) - min(lasts.values()) > max(tolerance * max(lasts.values()), 1 / slowest):
        got = ", ".join(f"{name} {last:.4g} s" for name, last in lasts.items())
        raise DataError(
            f"{path}: without times all sensors last equally long, and by their rates they last {got}: correct a rate, or add times"
        )


def _subject(path: Path, name: str, columns: Mapping[str, Column]) -> str:
    """Who was recorded: the one value of a column; empty where the schema names none."""
    if not name:
        return ""
    if name not in columns:
        raise DataError(f"{path} lacks the column {name!r} of the subject: add it, or name the file in subjects of {SCHEMA}")
    found = sorted(set(_names(path, name, columns[name])) - {""})
    if not found:
        raise DataError(f"{path}: {name!r} names nobody: fill in who was recorded, or name the file in subjects of {SCHEMA}")
    if len(found) != 1:
        raise DataError(f"{path}: {name!r} names {len(found)} subjects ({', '.join(found[:4])}): a recording is of one; split the file")
    return found[0]


def _stretches(
    path: Path, schema: Schema, columns: Mapping[str, Column], tracks: Mapping[str, Track], steps: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, list[str]]:
    """Begin and end of every run of one class, in seconds (S, 2), and its name."""
    nothing: tuple[np.ndarray, list[str]] = np.zeros((0, 2)), []
    if not schema.label or schema.label not in columns:
        return nothing
    texts = np.array(_names(path, schema.label, columns[schema.label]))
    begin, end = min(track.start for track in tracks.values()), max(track.end for track in tracks.values())
    if len(texts) == 1:
        return (np.array([[begin, end]]), texts.tolist()) if texts[0] else nothing
    own = [name for name, times in steps.items() if len(times) == len(texts)]
    if not own:
        got = ", ".join(f"{name} {len(times)}" for name, times in steps.items())
        raise DataError(f"{path}: {schema.label!r} has {len(texts)} rows, and the sensors have {got}: give a label to each row of one")
    times = np.append(steps[own[0]], end)
    borders = np.flatnonzero(np.append(True, texts[1:] != texts[:-1]))
    stretches = np.stack([times[borders], np.append(times[borders[1:]], max(end, times[-2]))], axis=1)
    known = (texts[borders] != "") & (stretches[:, 1] > stretches[:, 0])
    return stretches[known], texts[borders][known].tolist()
