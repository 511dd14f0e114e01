"""Your own recordings of sensors: a folder with one table for each, and a schema that says what their columns are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import read_arrays
from kinshot.datasets import SOURCES
from kinshot.datasets.people import Division, part_of
from kinshot.datasets.recording import Recording, Track, track_at
from kinshot.datasets.recordings_schema import SCHEMA, Schema, Sensor, read_schema
from kinshot.datasets.table_files import Column, read_columns
from kinshot.datasets.windows import Cut, WindowSource

_ENDINGS = (".csv", ".tsv", ".npz")
_EMPTY = ("", "nan", "NaN", "NA", "null")


@SOURCES.register("recordings", kind="series")
def recordings(
    *,
    root: str,
    split: Literal["all", "train", "val", "test"] = "train",
    seconds: float = 2.56,
    step: float = 1.28,
    sensors: tuple[str, ...] = (),
    labels: Literal["majority", "pure", "none"] = "majority",
    grid: Literal["recording", "stretches"] = "recording",
    measured: float = 0.5,
    short: Literal["leave out", "pad"] = "leave out",
    split_by: Literal["subject", "recording", "window"] = "subject",
    held_out: tuple[str, ...] = (),
    val_share: float = 0.2,
    test_share: float = 0.2,
    split_seed: int = 0,
    leaky: bool = False,
    rate_tolerance: float = 0.02,
) -> WindowSource:
    """Your own recordings of sensors: a folder of .csv, .tsv or .npz files, one a recording, and recordings.json beside them.

    The schema names the columns of each sensor and its rate in Hz:

        {"sensors": {"belt": {"columns": ["ax", "ay", "az"], "rate": 50}, "air": {"columns": ["hPa"], "rate": 10}},
         "time": "t", "time_unit": "ms", "subject": "who", "label": "activity"}

    `time` is a column of timestamps (a sensor may name its own), in `time_unit` (s, ms, us or ns), which are held against the rate; a gap
    in them stays a gap, and the clock of a recording begins with its first. Without it rows follow one another at the rate, and all
    sensors of a recording must last equally long. A row of a table that leaves all columns of a sensor empty says nothing of it, so that
    sensors of several rates fit into one table; arrays of an .npz file may be of any length, (n,) or (n, channels). `subject` is a column
    that says who was recorded, one value in a file, or `subjects` maps files to persons. `label` is a column of class names, empty where
    the class is unknown, or one value for all; `classes` may give their order. An empty cell, or NaN, is what was not measured. A file
    that lacks all columns of a sensor lacks that sensor.

    Args:
        root: the folder; files lie in it or below.
        split: all, train, val or test.
        seconds: length of a window.
        step: seconds from the begin of a window to that of the next.
        sensors: those to take, in order; empty for all.
        labels: a window's class is that of more than half of it, or of all of it, and windows without are left out; none asks for none.
        grid: the first window begins with the recording, or anew with every stretch of one class.
        measured: least share of its steps that a sensor must have measured to be present in a window.
        short: what is done with recordings, or stretches, shorter than a window.
        split_by: what is kept on one side: subjects, recordings, or, with leaky alone, windows.
        held_out: subjects (or recordings) to test on, leaving them out of train and val; empty draws a share.
        val_share: share of subjects for validation.
        test_share: share of subjects for the test, where nobody is held out.
        split_seed: of the draw of subjects.
        leaky: allow split_by=window, which puts windows of one person on both sides.
        rate_tolerance: how far timestamps may lie from the declared rate, as a share of it.

    Raises:
        DataError: a schema or file that cannot be read, timestamps that go back or say another rate, or no window.
    """
    division = Division(split_by, tuple(held_out), val_share, test_share, split_seed, leaky)
    place = Path(root).expanduser()
    schema = read_schema(place)
    files, ignored = _files(place)
    found = [_read(path, path.relative_to(place), schema, rate_tolerance) for path in files]
    cut = Cut(seconds, step, labels if schema.label else "none", grid, measured, short)
    names = _class_names(found, schema)
    whole = [_recording(one, names) for one in found]
    name = f"recordings/{place.name}/{split}"
    kept, keep = part_of(whole, split, division, name)
    notes = [f"{ignored} files are left out, which end in none of {', '.join(_ENDINGS)}"] if ignored else []
    if split_by != "subject" and split != "all" and len({one.subject for one in whole if one.subject}) > 1:
        notes.append(f"split_by={split_by}: the same people may be in train, val and test")
    wanted = sensors or tuple(sensor for sensor in schema.sensors if any(sensor in one.tracks for one in whole))
    return WindowSource(kept, cut, names, name, wanted, notes, keep)


Labelled = tuple[Recording, np.ndarray, list[str]]
"""A recording, and stretches (S, 2) with the names of their classes."""


def _files(place: Path) -> tuple[list[Path], int]:
    """Tables below a folder, in the order of their names, and how many other files there are; hidden ones are none."""
    every = [path for path in sorted(place.rglob("*")) if path.is_file() and path.name != SCHEMA]
    every = [path for path in every if not any(part.startswith(".") for part in path.relative_to(place).parts)]
    files = [path for path in every if path.suffix.lower() in _ENDINGS]
    if not files:
        raise DataError(f"no recording in {place}: expected files that end in {', '.join(_ENDINGS)} beside {SCHEMA}; set root")
    return files, len(every) - len(files)


def _read(path: Path, inside: Path, schema: Schema, tolerance: float) -> Labelled:
    """One file."""
    one_table = path.suffix.lower() != ".npz"
    columns: Mapping[str, Column] = read_columns(path) if one_table else read_arrays(path)
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for name, sensor in schema.sensors.items():
        values = _values(path, name, sensor, columns)
        if values is not None:
            found[name] = values, _times(path, sensor.time or schema.time, columns, len(values))
    # the clock of a recording begins with it: seconds since 1970 leave a float too few digits for a step
    zero = min((float(np.nanmin(times)) for _, times in found.values() if times is not None and np.isfinite(times).any()), default=0.0)
    tracks: dict[str, Track] = {}
    steps: dict[str, np.ndarray] = {}  # times of all rows of a sensor, measured or not
    notes: list[str] = []
    for name, (values, times) in found.items():
        rate, some = schema.sensors[name].rate, ~np.isnan(values).all(axis=1)
        if times is None:
            tracks[name], steps[name] = Track(values, rate), np.arange(len(values)) / rate
        elif some.any():
            steps[name] = (times - zero) * schema.seconds
            tracks[name], said = track_at(steps[name][some], values[some], rate, f"{path}, {name}", tolerance)
            notes += said
        else:
            notes.append(f"{inside}: {name} is empty, and counts as missing")
    if not tracks:
        raise DataError(f"{path} has the columns of no sensor of {SCHEMA}: it has {', '.join(columns) or 'none'}; correct the schema")
    _check_lengths(path, {name: track for name, track in tracks.items() if found[name][1] is None}, one_table, tolerance)
    stem = inside.with_suffix("").as_posix()
    subject = schema.subjects.get(inside.as_posix(), schema.subjects.get(stem, "")) or _subject(path, schema.subject, columns)
    stretches, names = _stretches(path, schema, columns, tracks, steps)
    return Recording(stem, tracks, subject, notes=tuple(notes)), stretches, names


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
    texts = [text.strip() for text in (column if isinstance(column, list) else np.ravel(column).tolist())] if _is_text(column) else None
    if texts is None:
        raise DataError(f"{path}: {name!r} holds neither numbers nor texts: save it as numbers")
    filled = ["nan" if text in _EMPTY else text for text in texts]
    try:
        return np.array(filled, dtype=np.float64)
    except ValueError:
        row = next(row for row, text in enumerate(filled) if not _is_number(text))
        raise DataError(
            f"{path}: {name!r} is {texts[row]!r} in row {row + 1} of its values, no number: correct it or empty the cell"
        ) from None


def _is_text(column: Column) -> bool:
    return isinstance(column, list) or column.dtype.kind == "U"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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


def _check_lengths(path: Path, tracks: Mapping[str, Track], one_table: bool, tolerance: float) -> None:
    """Raises DataError where sensors without timestamps cannot have been measured side by side."""
    rates = {name: track.rate for name, track in tracks.items()}
    if one_table and len(set(rates.values())) > 1:
        got = ", ".join(f"{name} {rate:g} Hz" for name, rate in rates.items())
        raise DataError(f"{path}: sensors of several rates in one table ({got}) need a column of times: name it as time in {SCHEMA}")
    lasts = {name: track.end for name, track in tracks.items()}
    if lasts and max(lasts.values()) - min(lasts.values()) > max(tolerance * max(lasts.values()), 1 / min(rates.values())):
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
    found = sorted({str(value).strip() for value in np.ravel(np.asarray(columns[name])).tolist()} - {""})
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
    texts = np.array([str(text).strip() for text in np.ravel(np.asarray(columns[schema.label])).tolist()])
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


def _class_names(found: Sequence[Labelled], schema: Schema) -> list[str]:
    """Names of classes, in the order of the schema, else sorted."""
    every = sorted({name for _, _, names in found for name in names})
    strange = [name for name in every if schema.classes and name not in schema.classes]
    if strange:
        raise DataError(f"label {strange[0]!r} is none of the classes that {SCHEMA} lists: add it there, or correct the label")
    return list(schema.classes) or every


def _recording(labelled: Labelled, class_names: Sequence[str]) -> Recording:
    recording, stretches, names = labelled
    numbers = np.array([class_names.index(name) for name in names], dtype=np.int64)
    return Recording(recording.name, recording.tracks, recording.subject, stretches, numbers, recording.notes)
