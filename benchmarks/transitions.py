"""Windows of rare postural transitions, in the layout that UCI HAR has: novel classes for an encoder that was trained on its activities.

    python -m benchmarks.transitions WINDOWS.npz FOLDER
    fewshot eval RUN --data uci_har:FOLDER --split test --ways 5          (the people of the test; --split all for everybody)

The official windows of UCI HAR leave the transitions out. The archive has them, cut and filtered as those are: arrays
transition_body_acc, transition_body_gyro and transition_total_acc (n, 3, 128), transition_label (from 0), transition_subject,
transition_recording, transition_start (first step in the recording), transition_split (0 train, 1 test), and transition_label_names.
Who has the raw recordings of HAPT needs no archive: the source `hapt` cuts them itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import read_arrays
from kinshot.datasets.uci_har import LENGTH, SENSORS

COLUMNS = ("subject", "recording", "start", "split")


def main() -> None:
    """Write the folder."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("windows", type=Path, help="an .npz archive")
    arguments.add_argument("folder", type=Path, help="a new folder")
    given = arguments.parse_args()
    print(write(given.windows, given.folder))


def write(archive: Path, folder: Path) -> str:
    """Write what an archive has of transitions; gives how many windows of whom. Raises DataError for another archive."""
    found = read_arrays(archive)
    lacking = [key for key in (*SENSORS, "label", *COLUMNS, "label_names") if f"transition_{key}" not in found]
    if lacking:
        raise DataError(f"{archive} lacks transition_{lacking[0]}: it needs what the top of benchmarks/transitions.py lists")
    folder.mkdir(parents=True)
    names = found["transition_label_names"].tolist()
    (folder / "activity_labels.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names, 1)), encoding="utf-8")
    counts = [_write_part(found, folder / part, part, found["transition_split"] == code) for code, part in enumerate(("train", "test"))]
    return f"{counts[0]} windows of {len(names)} transitions of the people of train, {counts[1]} of those of test"


def _write_part(found: Mapping[str, np.ndarray], folder: Path, part: str, chosen: np.ndarray) -> int:
    signals = folder / "Inertial Signals"
    signals.mkdir(parents=True)
    for sensor in SENSORS:
        windows = found[f"transition_{sensor}"][chosen].astype(np.float32).reshape(-1, 3, LENGTH)
        for axis, letter in enumerate("xyz"):
            np.savetxt(signals / f"{sensor}_{letter}_{part}.txt", windows[:, axis], fmt="%15.8e")
    columns = {"y": found["transition_label"][chosen] + 1} | {key: found[f"transition_{key}"][chosen] for key in COLUMNS[:-1]}
    for key, column in columns.items():
        np.savetxt(folder / f"{key}_{part}.txt", column, fmt="%d")
    return int(chosen.sum())


if __name__ == "__main__":
    main()
