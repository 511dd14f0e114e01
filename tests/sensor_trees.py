"""Tiny folders in the layouts that sources of sensors read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

ACTIVITIES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
TRANSITIONS = ("STAND_TO_SIT", "SIT_TO_STAND", "SIT_TO_LIE", "LIE_TO_SIT", "STAND_TO_LIE", "LIE_TO_STAND")


def write_recordings(root: Path) -> None:
    """Five people, each recorded once for twelve seconds at 20 and 4 Hz, walking and then sitting."""
    sensors = {"belt": {"columns": ["ax", "ay"], "rate": 20}, "air": {"columns": ["hPa"], "rate": 4}}
    schema = {"sensors": sensors, "time": "t", "subject": "who", "label": "what"}
    (root / "recordings.json").write_text(json.dumps(schema))
    draws = np.random.default_rng(0)
    for person in range(5):
        what = ["walk" if k < 120 else "sit" for k in range(240)]
        rows = [
            f"{k / 20},{draws.normal():.4f},{draws.normal():.4f},{1000 + draws.normal():.2f},p{person},{what[k]}"
            if k % 5 == 0
            else f"{k / 20},{draws.normal():.4f},{draws.normal():.4f},,p{person},{what[k]}"
            for k in range(240)
        ]
        (root / f"walk{person}.csv").write_text("\n".join(["t,ax,ay,hPa,who,what", *rows]) + "\n")


def write_uci_har(root: Path, extra: bool = True) -> None:
    """Three people in train and two in test, six windows each: one of every activity."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "activity_labels.txt").write_text("".join(f"{k} {name}\n" for k, name in enumerate(ACTIVITIES, 1)))
    for part, people in (("train", (1, 3, 5)), ("test", (2, 4))):
        signals = root / part / "Inertial Signals"
        signals.mkdir(parents=True)
        draws = np.random.default_rng(len(people))
        count = 6 * len(people)
        for sensor in ("body_acc", "body_gyro", "total_acc"):
            for axis in "xyz":
                lines = ["".join(f" {value:15.7e}" for value in row) for row in draws.normal(size=(count, 128))]
                (signals / f"{sensor}_{axis}_{part}.txt").write_text("\n".join(lines) + "\n")
        columns = {"y": [k % 6 + 1 for k in range(count)], "subject": [people[k // 6] for k in range(count)]}
        if extra:
            columns |= {"recording": [people[k // 6] for k in range(count)], "start": [64 * (k % 6) for k in range(count)]}
        for name, column in columns.items():
            (root / part / f"{name}_{part}.txt").write_text("".join(f"{value}\n" for value in column))


def write_hapt(root: Path) -> None:
    """Six people, each with a recording in which all twelve activities follow one another, four seconds each, two seconds apart."""
    (root / "RawData").mkdir(parents=True)
    (root / "activity_labels.txt").write_text("".join(f"{k} {name}\n" for k, name in enumerate((*ACTIVITIES, *TRANSITIONS), 1)))
    draws, rows = np.random.default_rng(0), []
    for number, person in enumerate((1, 2, 3, 4, 5, 6), 1):
        for sensor in ("acc", "gyro"):
            values = draws.normal(size=(12 * 300, 3))
            lines = "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in values)
            (root / "RawData" / f"{sensor}_exp{number:02d}_user{person:02d}.txt").write_text(lines)
        rows += [f"{number} {person} {activity} {300 * (activity - 1) + 1} {300 * (activity - 1) + 200}" for activity in range(1, 13)]
    (root / "RawData" / "labels.txt").write_text("\n".join(rows) + "\n")
