"""UCI HAR in its official layout: windows of a phone's accelerometer and gyroscope, six activities of thirty people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import is_numeral, read_text
from kinshot.datasets import SOURCES
from kinshot.datasets.fields import FieldsSource
from kinshot.datasets.people import Division, part_of
from kinshot.datasets.recording import Recording, check_sensors
from kinshot.datasets.series import SeriesSource

RATE, LENGTH = 50.0, 128
SENSORS = ("body_acc", "body_gyro", "total_acc")
_FOLDER = "UCI HAR Dataset"
_PARTS = ("train", "test")
_MOST = 2**30


@SOURCES.register("uci_har", kind="series")
def uci_har(
    *,
    root: str,
    split: Literal["all", "train", "val", "test"] = "train",
    sensors: tuple[str, ...] = ("body_acc", "body_gyro", "total_acc"),
    val_share: float = 0.0,
    held_out: tuple[str, ...] = (),
    split_seed: int = 0,
) -> FieldsSource:
    """UCI HAR: about 10,300 windows of 2.56 s of a phone at the waist, 50 Hz, 6 activities, split by person (21 and 9).

    Reads activity_labels.txt, and y, subject and Inertial Signals below train and test, in root or root/UCI HAR Dataset. total_acc and
    body_acc are in g, body_gyro in rad/s. body_acc is total_acc less a low-passed gravity: a task across the two is trivial. Neighbouring
    windows of a person overlap by half; the official files do not say which recording a window is of and where it starts. Where files
    recording_train.txt and start_train.txt (first step) lie beside y_train.txt, and so for test, the windows have a clock.

    Paper: Anguita, Ghio, Oneto, Parra, Reyes-Ortiz 2013, A Public Domain Dataset for Human Activity Recognition Using Smartphones (ESANN)

    Args:
        root: folder with train and test, or the one that holds it.
        split: train and test as published, by person; val is a share of the people of train, which train then lacks; or all.
        sensors: of body_acc, body_gyro and total_acc those to take, in order.
        val_share: share of the people of train that are for validation.
        held_out: numbers of the people to test on instead, all others of both folders being trained on: leave-one-subject-out.
        split_seed: of the draw of people for validation.

    Raises:
        ConfigError: sensors that there are not.
        DataError: files that are missing, or that do not fit one another.
    """
    check_sensors("uci_har", sensors, SENSORS)
    place = _place(Path(root).expanduser())
    names = read_activities(place / "activity_labels.txt")
    published = {part: _table(place, part, len(names)) for part in _PARTS}
    if not held_out:
        _check_people(place, published)
    if "recording" in published["train"]:
        keys = ("recording", "start", "subject")
        _check_clock(place, *(np.concatenate([table[key] for table in published.values()]) for key in keys))
    chosen = {part: _rows(published, part, split, Division("subject", tuple(held_out), val_share, 0.0, split_seed)) for part in _PARTS}
    taken = [part for part in _PARTS if len(chosen[part])]
    windows = {
        sensor: np.concatenate([_windows(place, part, sensor, len(published[part]["y"]))[chosen[part]] for part in taken])
        for sensor in sensors
    }
    present = {sensor: ~np.isnan(values).all(axis=(1, 2)) for sensor, values in windows.items()}
    for sensor, there in present.items():
        if not there.any():
            raise DataError(f"uci_har/{split}: {sensor} is measured in no window: leave it out of the sensors")
    fields = {sensor: SeriesSource(values, RATE, name=sensor) for sensor, values in windows.items()}
    columns = {key: np.concatenate([published[part][key][chosen[part]] for part in taken]) for key in published["train"]}
    return FieldsSource(
        fields,
        columns["y"] - 1,
        names,
        f"uci_har/{split}",
        notes=[
            *(f"{int((~there).sum())} of {len(there)} windows lack {sensor}" for sensor, there in present.items() if not there.all()),
            *_without_clock(place),
        ],
        present={sensor: there for sensor, there in present.items() if not there.all()},
        **_beside(columns),
    )


def _place(root: Path) -> Path:
    for place in (root, root / _FOLDER):
        if all((place / part / "Inertial Signals").is_dir() for part in _PARTS):
            return place
    raise DataError(f"no UCI HAR data in {root}: looked for train and test with Inertial Signals there and in {_FOLDER!r}; set root")


def read_activities(path: Path) -> list[str]:
    """Names of activities, whose numbers are 1, 2, .... Raises DataError."""
    rows = [line.split(maxsplit=1) for line in read_text(path, remedy="copy the data set again").splitlines() if line.strip()]
    if not rows or [row[0] for row in rows] != [str(number) for number in range(1, len(rows) + 1)] or any(len(row) != 2 for row in rows):
        raise DataError(f"{path}: expected a number and a name in each line, numbers from 1 on: copy the data set again")
    names = [row[1].strip() for row in rows]
    if len(set(names)) != len(names):
        raise DataError(f"{path}: two activities are called {max(names, key=names.count)}: copy the data set again")
    return names


def read_numbers(path: Path, columns: int, dtype: type) -> np.ndarray:
    """Numbers of a file with so many in each line, (N, columns). Raises DataError."""
    text = read_text(path, most=_MOST, remedy="copy the data set again")
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1)]
    rows = [(number, row) for number, row in lines if row]
    for number, row in rows:
        if len(row) != columns:
            raise DataError(f"{path}, line {number}: expected {columns} numbers, got {len(row)}: copy the data set again")
    if not text.isascii() or "_" in text:  # numpy takes 1_000 and digits of other scripts for numbers
        for number, row in rows:
            if strange := [word for word in row if not is_numeral(word)]:
                raise DataError(f"{path}, line {number}: {strange[0]!r} is no number: copy the data set again")
    try:
        found: np.ndarray = np.array([word for _, row in rows for word in row], dtype=dtype)
    except ValueError as problem:
        raise DataError(f"{path}: {str(problem)[:120]}: copy the data set again") from problem
    return found.reshape(-1, columns)


def _clock_files(place: Path) -> dict[Path, bool]:
    """Which of the files that say recording and start are there."""
    paths = [place / part / f"{key}_{part}.txt" for part in _PARTS for key in ("recording", "start")]
    return {path: path.is_file() for path in paths}


def _without_clock(place: Path) -> list[str]:
    """What is to be said where some of these files are there, and not all."""
    gone = [path.name for path, there in _clock_files(place).items() if not there]
    return [f"the windows have no clock: {', '.join(gone)} missing"] if 0 < len(gone) < 2 * len(_PARTS) else []


def _table(place: Path, part: str, classes: int) -> dict[str, np.ndarray]:
    """What is known of the windows of a folder: y from 1, subject, and perhaps recording and start."""
    keys = ("y", "subject", *(("recording", "start") if all(_clock_files(place).values()) else ()))
    columns = {key: read_numbers(place / part / f"{key}_{part}.txt", 1, np.int64)[:, 0] for key in keys}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{place / part}: the files have unequal numbers of lines ({got}): copy the data set again")
    if len(columns["y"]) and not 1 <= columns["y"].min() <= columns["y"].max() <= classes:
        raise DataError(f"{place / part}: y runs from {columns['y'].min()} to {columns['y'].max()} of {classes} activities: copy it again")
    return columns


def _check_people(place: Path, published: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Raises DataError where somebody is in both folders."""
    both = sorted(set.intersection(*(set(table["subject"].tolist()) for table in published.values())))
    if both:
        who = f"person {both[0]}" if len(both) == 1 else f"people {', '.join(map(str, both))}"
        raise DataError(f"{place}: windows of {who} are in train and in test: copy the data set again, or divide anew with held_out")


def _check_clock(place: Path, recording: np.ndarray, start: np.ndarray, subject: np.ndarray) -> None:
    """Raises DataError where a recording is of two people, or two of its windows begin at one step."""
    people = np.unique(np.stack([recording, subject], axis=1), axis=0)
    shared = np.flatnonzero(np.diff(people[:, 0]) == 0)
    if len(shared):
        (number, one), (_, other) = people[shared[0] : shared[0] + 2].tolist()
        who = f"recording {number} has windows of the people {one} and {other}"
        raise DataError(f"{place}: {who}: number the recordings of train and test in one sequence")
    windows, counts = np.unique(np.stack([recording, start], axis=1), axis=0, return_counts=True)
    if (counts > 1).any():
        number, step = windows[counts > 1][0].tolist()
        raise DataError(f"{place}: recording {number} has two windows that begin at step {step}: correct the files start_*.txt")


def _windows(place: Path, part: str, sensor: str, count: int) -> np.ndarray:
    """float32 (count, 3, 128)."""
    axes = []
    for axis in "xyz":
        path = place / part / "Inertial Signals" / f"{sensor}_{axis}_{part}.txt"
        axes.append(read_numbers(path, LENGTH, np.float32))
        if len(axes[-1]) != count:
            raise DataError(f"{path} has {len(axes[-1])} windows, y_{part}.txt has {count}: copy the data set again")
    return np.stack(axes, axis=1)


def _rows(published: Mapping[str, Mapping[str, np.ndarray]], part: str, split: str, division: Division) -> np.ndarray:
    """The windows of a folder that are of a split."""
    subjects = published[part]["subject"]
    if division.held_out:
        everyone: Sequence[int] = sorted({number for one in _PARTS for number in published[one]["subject"].tolist()})
    elif split in ("all", "test"):
        return np.arange(len(subjects) if split in ("all", part) else 0)
    elif part == "test":
        return np.arange(0)
    else:
        everyone = sorted(set(subjects.tolist()))
    people = [Recording(str(number), {}, str(number)) for number in everyone]
    kept, _ = part_of(people, split, division, "uci_har")
    return np.flatnonzero(np.isin(subjects, [int(one.subject) for one in kept]))


def _beside(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Subjects as an attribute and, where they are known, recordings, starts and the clock."""
    attributes: dict[str, np.ndarray] = {}
    names: dict[str, list[str]] = {}
    for key in ("subject", "recording"):
        if key in columns:
            found, attributes[key] = np.unique(columns[key], return_inverse=True)
            names[key] = [str(number) for number in found.tolist()]
    more: dict[str, Any] = {"attributes": attributes, "attribute_names": names}
    if "recording" in columns:
        attributes["start"] = columns["start"] / RATE
        more["clock"] = attributes["start"], attributes["recording"]
    return more
