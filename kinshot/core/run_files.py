"""What a run writes into its folder: telling a run from other folders, and taking one away without touching anything else.

A run folder may have been received from somebody else, so nothing in it is followed out of it: `refuse_links` before a run writes.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from kinshot.core.atomic import aside, is_aside
from kinshot.core.checkpoint_files import MANIFEST, PARTS, SMALL, decode_config, file_of
from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.runlock import LOCK, is_lock

CONFIG, METRICS, TIMING = "config.yaml", "metrics.jsonl", "timing.jsonl"
TABLE, LOGGERS = "metrics.csv", "loggers.json"
RECORDS = ("best.json", "result.json", "diverged.json", TABLE, LOGGERS, TIMING, METRICS, CONFIG)
LOGGED = ("wandb", "mlruns")
"""Folders that loggers keep in a run's; what is in them is other programs', and stays."""
CHECKPOINTS, TENSORBOARD = "checkpoints", "tensorboard"
_EVENTS = re.compile(r"^(events\.out\.tfevents\..*|projector_config\.pbtxt|\d{5,})$")
_SECTIONS = {"name", "seed", "data", "views", "encoder", "method", "train", "monitor"}


def refuse_links(run_folder: Path) -> None:
    """Raise ConfigError where something that a run would write to is a link, or no plain file or folder; the folder itself may be one."""
    for path in _written(run_folder):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = "a link" if stat.S_ISLNK(mode) else "no plain file or folder"
            raise ConfigError(f"{path} is {kind}, and a run writes to nothing else: remove it, or choose another folder")
    folders = ((name, True) for name in (CHECKPOINTS, TENSORBOARD, *LOGGED))
    for name, wanted in (*folders, (LOCK, False), *((record, False) for record in RECORDS)):
        path = run_folder / name
        if path.exists() and path.is_dir() != wanted:
            raise ConfigError(
                f"{path} is a {'file' if wanted else 'folder'}: a run keeps other things there; move it, or choose another folder"
            )


def is_begun(run_folder: Path) -> bool:
    """Whether a folder holds a run, or no more than what one leaves that is killed before it has written its recipe down."""
    if is_run(run_folder):
        return True

    def early(path: Path) -> bool:
        empty = path.name in (METRICS, TIMING) and path.is_file() and path.stat().st_size == 0
        return path.name in (LOCK, TENSORBOARD, TABLE, LOGGERS, *LOGGED) or empty or is_aside(path)

    return is_lock(run_folder / LOCK) and all(map(early, run_folder.iterdir()))


def is_run(run_folder: Path) -> bool:
    """Whether a folder holds a run's own files: its resolved recipe with checkpoints, or with the lock and records of one that began."""
    if not _is_config(run_folder / CONFIG):
        return False
    began = is_lock(run_folder / LOCK) and all((run_folder / name).is_file() for name in (METRICS, TIMING))
    return began or any(_is_checkpoint(path) for path in _inside(run_folder / CHECKPOINTS))


def remove_run(run_folder: Path) -> list[str]:
    """Delete a run's own files, its lock aside; returns the names of what is left, which is somebody else's.

    They are moved out of the way before the first is deleted, so that a kill leaves no half of a file. Raises ConfigError.
    """
    doomed = aside(run_folder / "run", "tmp")
    try:
        shutil.rmtree(doomed, ignore_errors=True)
        doomed.mkdir()
        for number, path in enumerate(_own(run_folder)):
            os.rename(path, doomed / f"{number}")
        for name in (CHECKPOINTS, TENSORBOARD):
            if (run_folder / name).is_dir() and not any(_inside(run_folder / name)):
                (run_folder / name).rmdir()
        shutil.rmtree(doomed, ignore_errors=True)
    except OSError as problem:
        raise ConfigError(f"cannot take the earlier run out of {run_folder}: {problem.strerror}; choose another folder") from problem
    return sorted(path.name for path in _inside(run_folder) if path.name != LOCK)


def _own(run_folder: Path) -> Iterator[Path]:
    """A run's files and folders of checkpoints and events; the recipe, by which it is known, last."""
    yield from (path for path in _inside(run_folder / CHECKPOINTS) if _is_checkpoint(path))
    yield from (path for path in _inside(run_folder / TENSORBOARD) if _EVENTS.match(path.name))
    yield from (run_folder / name for name in RECORDS if (run_folder / name).is_file())


def _written(run_folder: Path) -> Iterator[Path]:
    for name in (CHECKPOINTS, TENSORBOARD, *LOGGED, LOCK, *RECORDS):
        if os.path.lexists(run_folder / name):
            yield run_folder / name
    if (run_folder / TENSORBOARD).is_dir():
        yield from (run_folder / TENSORBOARD).rglob("*")


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_checkpoint(path: Path) -> bool:
    """Whether a folder is named as a run's checkpoints are and holds files of a checkpoint, whole or not, and nothing else."""
    if not re.match(r"^\.?step-\d+", path.name) or path.is_symlink() or not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return bool({MANIFEST, file_of("encoder")} & names) and names <= {MANIFEST, *SMALL, *map(file_of, PARTS)}


def _is_config(path: Path) -> bool:
    """Whether a file is a recipe with every section, as a run writes it down; people write shorter ones."""
    try:
        return decode_config(path, path.read_bytes()).keys() >= _SECTIONS
    except (CheckpointError, OSError):
        return False
