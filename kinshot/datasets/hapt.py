"""HAPT in its official raw layout: recordings of a phone's accelerometer and gyroscope, six activities and six transitions between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.people import Division, part_of
from kinshot.datasets.recording import Recording, Track, check_sensors
from kinshot.datasets.uci_har import RATE, read_activities, read_numbers
from kinshot.datasets.windows import Cut, WindowSource

TEST = (2, 4, 9, 10, 12, 13, 18, 20, 24)
"""The people of the published test set, which is that of UCI HAR too."""

_FILES = {"total_acc": "acc", "body_gyro": "gyro"}
_ACTIVITIES = 6


@SOURCES.register("hapt", kind="series")
def hapt(
    *,
    root: str,
    split: Literal["all", "train", "val", "test"] = "train",
    classes: Literal["split", "activities", "transitions", "all"] = "split",
    sensors: tuple[str, ...] = ("total_acc", "body_gyro"),
    seconds: float = 2.56,
    step: float = 1.28,
    grid: Literal["stretches", "recording"] = "stretches",
    labels: Literal["majority", "pure"] = "majority",
    short: Literal["leave out", "pad"] = "leave out",
    val_share: float = 0.0,
    held_out: tuple[str, ...] = (),
    split_seed: int = 0,
) -> WindowSource:
    """HAPT: 61 recordings of a phone at the waist, 50 Hz, 30 people, 6 activities and 6 rare postural transitions, split by person.

    Reads RawData/labels.txt, RawData/acc_expNN_userNN.txt and gyro_expNN_userNN.txt, and activity_labels.txt beside RawData, in root or
    root/HAPT Data Set. total_acc is in g with gravity, body_gyro in rad/s, both as they were measured, unfiltered. What has no label lies
    in no window. Most transitions last two to five seconds: those shorter than a window are left out and counted, or filled up with NaN.

    Paper: Reyes-Ortiz, Oneto, Sama, Parra, Anguita 2016, Transition-Aware Human Activity Recognition Using Smartphones (Neurocomputing)

    Args:
        root: folder with RawData, or the one that holds it.
        split: train and test as published, by person (21 and 9); val is a share of the people of train, which train then lacks; or all.
        classes: activities, transitions or all of them; split is activities for train and val, transitions for test, all for all.
        sensors: of total_acc and body_gyro those to take, in order.
        seconds: length of a window.
        step: seconds from the begin of a window to that of the next.
        grid: the first window begins anew with every labelled stretch, or with the recording.
        labels: with grid=recording, a window's class is that of more than half of it, or of all of it.
        short: what is done with stretches shorter than a window.
        val_share: share of the people of train that are for validation.
        held_out: numbers of the people to test on instead, all others being trained on: leave-one-subject-out.
        split_seed: of the draw of people for validation.

    Raises:
        ConfigError: sensors that there are not.
        DataError: files that are missing, or that do not fit one another.
    """
    check_sensors("hapt", sensors, list(_FILES))
    place = _place(Path(root).expanduser())
    names = read_activities(place / "activity_labels.txt")
    table = read_numbers(place / "RawData" / "labels.txt", 5, np.int64)
    chosen = {"train": "activities", "val": "activities", "test": "transitions", "all": "all"}[split] if classes == "split" else classes
    first, last = {"activities": (0, _ACTIVITIES), "transitions": (_ACTIVITIES, len(names)), "all": (0, len(names))}[chosen]
    files = _experiments(place / "RawData")
    people = [Recording(f"{experiment:02d}", {}, str(user)) for experiment, user in files]
    kept = _people(people, split, Division("subject", tuple(held_out), val_share, 0.0, split_seed))
    recordings = [_recording(place / "RawData", one, sensors, table, first, last) for one in kept]
    return WindowSource(recordings, Cut(seconds, step, labels, grid, short=short), names[first:last], f"hapt/{split}", sensors)


def _place(root: Path) -> Path:
    for place in (root, root / "HAPT Data Set"):
        if (place / "RawData" / "labels.txt").is_file():
            return place
    raise DataError(f"no HAPT data in {root}: looked for RawData/labels.txt there and in 'HAPT Data Set'; set root")


def _experiments(folder: Path) -> list[tuple[int, int]]:
    """Experiment and user of every recording."""
    found = [re.fullmatch(r"acc_exp(\d+)_user(\d+)\.txt", path.name) for path in sorted(folder.iterdir())]
    pairs = [(int(match[1]), int(match[2])) for match in found if match]
    if not pairs:
        raise DataError(f"no acc_expNN_userNN.txt in {folder}: copy the data set again")
    return pairs


def _people(recordings: Sequence[Recording], split: str, division: Division) -> list[Recording]:
    """The recordings of a split: the published one, unless somebody is held out."""
    tested = [one for one in recordings if not division.held_out and int(one.subject) in TEST]
    if split == "test" and not division.held_out:
        return tested
    rest = [one for one in recordings if one not in tested] if split != "all" else recordings
    return part_of(rest, split, division, "hapt")[0]


def _recording(folder: Path, one: Recording, sensors: Sequence[str], table: np.ndarray, first: int, last: int) -> Recording:
    """One recording, known by experiment and user, with the stretches of some classes."""
    experiment, user = int(one.name), int(one.subject)
    tracks: Mapping[str, Track] = {
        sensor: Track(read_numbers(folder / f"{_FILES[sensor]}_exp{experiment:02d}_user{user:02d}.txt", 3, np.float32), RATE)
        for sensor in sensors
    }
    own = table[(table[:, 0] == experiment) & (table[:, 1] == user)]
    own = own[(own[:, 2] > first) & (own[:, 2] <= last)]
    own = own[np.argsort(own[:, 3], kind="stable")]
    stretches = np.stack([own[:, 3] - 1, own[:, 4]], axis=1) / RATE  # the first step is 1, and the last one is of the stretch
    return Recording(f"exp{experiment:02d}", tracks, str(user), stretches, own[:, 2] - 1 - first)
