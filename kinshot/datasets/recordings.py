"""Your own recordings of sensors: a folder with one table for each, and a schema that says what their columns are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.datasets import SOURCES
from kinshot.datasets.people import Division, part_of
from kinshot.datasets.recording import Recording
from kinshot.datasets.recording_files import Read, read_recording
from kinshot.datasets.recordings_schema import SCHEMA, Schema, read_schema
from kinshot.datasets.windows import Cut, WindowSource

_ENDINGS = (".csv", ".tsv", ".npz")


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
    relative: tuple[str, ...] = (),
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
    the class is unknown, or one value for all; `classes` may give their order. An empty cell, NaN, NA or null is what was not measured or
    is not known. A file that lacks all columns of a sensor lacks that sensor.

    Sound is a WAV file beside each table, and a camera a folder of images, {name} being the table's name without its ending:

        "mic": {"wav": "{name}.wav", "mels": 64}, "cam": {"frames": "{name}_frames", "rate": 5, "size": 32}

    Both begin with the recording, and one that lacks them lacks the sensor. Steps of sound are the logarithm of its power in `mels` bands
    from `low` (125) to `high` (7500) Hz, in windows of `window` (0.025) seconds, one every `hop` (0.01) seconds (`datasets.log_mel`), which
    no sampling rate changes, so that files may differ in it, down to twice `high`; channels are averaged. Images are frames at `rate`, in
    the order of their names, numbers by value: of each the central square, in `size` pixels, in colour, or with "channels": 1 in grey; a
    field of kind frames. The times of a table that has no sensor's columns, but classes, count from the begin of what lies beside it.

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
        relative: sensors whose windows count as what they are around their own mean: those whose level says more of place and weather than
            of what happens, as air pressure does.
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
    schema, whole, names, notes = _folder(place, rate_tolerance)
    cut = Cut(seconds, step, labels if schema.label else "none", grid, measured, short, relative)
    if cut.labels != "none":
        _check_labelled(place, schema, whole)
    name = f"recordings/{place.name}/{split}"
    kept, keep = part_of(whole, split, division, name)
    if split_by != "subject" and split != "all" and len({one.subject for one in whole if one.subject}) > 1:
        notes.append(f"split_by={split_by}: the same people may be in train, val and test")
    wanted = sensors or tuple(sensor for sensor in schema.sensors if any(sensor in one.tracks for one in whole))
    return WindowSource(kept, cut, names, name, wanted, notes, keep)


def _folder(place: Path, tolerance: float) -> tuple[Schema, list[Recording], list[str], list[str]]:
    """The schema, all recordings, names of classes, and what should be said of the folder."""
    if not 0 < tolerance < 1:
        raise ConfigError(f"recordings: rate_tolerance is a share of the rate, above 0 and below 1, got {tolerance:g}: set another")
    schema = read_schema(place)
    files, others = _files(place)
    _check_subjects(schema, [path.relative_to(place) for path in files])
    found = [read_recording(path, path.relative_to(place), schema, tolerance) for path in files]
    names = _class_names(found, schema)
    left = len(others - {file for one in found for file in one.files})
    notes = [f"{left} files are left out, which end in none of {', '.join(_ENDINGS)}"] if left else []
    notes += _alike([one.recording.subject for one in found])
    notes += [f"no recording has {sensor}" for sensor in schema.sensors if not any(sensor in one.recording.tracks for one in found)]
    return schema, [_numbered(one, names) for one in found], names, notes


def _files(place: Path) -> tuple[list[Path], set[Path]]:
    """Tables below a folder, in the order of their names, and the other files; hidden ones are none."""
    # links to nowhere and pipes are none of the folders, and refused when they are read
    every = [path for path in sorted(place.rglob("*")) if not path.is_dir() and path.name != SCHEMA]
    every = [path for path in every if not any(part.startswith(".") for part in path.relative_to(place).parts)]
    files = [path for path in every if path.suffix.lower() in _ENDINGS]
    if not files:
        raise DataError(f"no recording in {place}: expected files that end in {', '.join(_ENDINGS)} beside {SCHEMA}; set root")
    return files, set(every) - set(files)


def _check_subjects(schema: Schema, files: Sequence[Path]) -> None:
    """Raises DataError where the schema says who was recorded in a file that is not there."""
    there = {file.as_posix() for file in files} | {file.with_suffix("").as_posix() for file in files}
    for file in schema.subjects:
        if file not in there:
            raise DataError(f"{SCHEMA}: subjects names {file!r}, and there is no such recording: {suggest(file, there)}")


def _check_labelled(place: Path, schema: Schema, recordings: Sequence[Recording]) -> None:
    """Raises DataError where no recording has a class."""
    if not any(len(one.classes) for one in recordings):
        raise DataError(
            f"{place}: no recording says a class in the column {schema.label!r} that {SCHEMA} names as label: correct the name, or leave "
            "label out, or set labels=none"
        )


def _alike(subjects: Sequence[str]) -> list[str]:
    """What is to be said of people whose names differ in case or spaces alone, who are divided as if they were several."""
    first: dict[str, str] = {}
    twins = [(first.setdefault("".join(name.lower().split()), name), name) for name in sorted(set(subjects))]
    return [f"subjects {one!r} and {other!r} count as two people: correct one name if they are one" for one, other in twins if one != other]


def _class_names(found: Sequence[Read], schema: Schema) -> list[str]:
    """Names of classes, in the order of the schema, else sorted."""
    every = sorted({name for one in found for name in one.names})
    for one in found if schema.classes else ():
        for name in one.names:
            if name not in schema.classes:
                where = f"recording {one.recording.name}: its label {name!r} is none of the classes that {SCHEMA} lists"
                raise DataError(f"{where}: {suggest(name, schema.classes)}; correct the label, or add it there")
    return list(schema.classes) or every


def _numbered(one: Read, class_names: Sequence[str]) -> Recording:
    """The recording with the numbers of its classes."""
    numbers = np.array([class_names.index(name) for name in one.names], dtype=np.int64)
    return replace(one.recording, stretches=one.stretches, classes=numbers)
