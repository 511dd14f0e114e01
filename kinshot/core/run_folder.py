"""The checkpoints of a run: which is the newest, which may go, and what a killed process left behind.

A save that is killed leaves temporary names alone, so a checkpoint that has its own name and cannot be read is damaged, or of a newer
kinshot. None is passed over for another one: whoever asks for the newest gets it, or an error that names what is wrong with it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from kinshot.core.atomic import remove_folder, sweep_orphans, write_json
from kinshot.core.checkpoint_files import ADVICE, read_manifest
from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.small_files import read_file

BEST = "best.json"
METRICS = ("accuracy", "miou")
"""What a checkpoint can be the best by: `best.json` holds one of these, in percent."""
_STEP = re.compile(r"^(?P<hidden>\.?)step-(?P<step>\d+)(?P<old>\.old-\d+)?$")


def checkpoint_path(run_folder: str | Path, step: int) -> Path:
    """Where a run keeps the checkpoint of `step`: `RUN/checkpoints/step-00001234`."""
    return Path(run_folder) / "checkpoints" / f"step-{step:08d}"


def check_complete(folder: str | Path) -> None:
    """Raise CheckpointError unless `folder` has a valid manifest and every file in it at its size (`load_checkpoint` hashes contents)."""
    folder = Path(folder)
    for name, entry in read_manifest(folder).items():
        try:
            size = (folder / name).stat().st_size
        except OSError as problem:
            raise CheckpointError(f"cannot read {folder / name}: {problem.strerror}; {ADVICE}") from problem
        if size != entry["bytes"]:
            raise CheckpointError(f"{folder / name} is damaged: expected {entry['bytes']} bytes, got {size}; {ADVICE}")


def is_complete(folder: str | Path) -> bool:
    """Whether `check_complete` finds nothing wrong."""
    try:
        check_complete(folder)
    except CheckpointError:
        return False
    return True


def latest(run_folder: str | Path) -> Path | None:
    """The newest checkpoint of a run, by step number, or None where there is none.

    Raises CheckpointError naming every checkpoint that is newer than the newest complete one, and why it cannot be read.
    """
    whole, wrong = None, []
    for _, path in reversed(_steps(Path(run_folder) / "checkpoints")):
        try:
            check_complete(path)
        except CheckpointError as problem:
            wrong.append(str(problem))
            continue
        whole = path
        break
    if not wrong:
        return whole
    instead = f"or name an older one yourself: {whole}" if whole else "or choose another run; nothing was changed here"
    count = "a checkpoint that cannot be read" if len(wrong) == 1 else f"{len(wrong)} checkpoints that cannot be read"
    raise CheckpointError("\n  ".join([f"{run_folder} has {count}; copy it again, {instead}:", *wrong]))


def read_best(run_folder: str | Path) -> dict[str, Any] | None:
    """What `write_best` wrote, or None where it never did.

    Raises CheckpointError where it cannot be read or names a checkpoint that is not complete: no other one may stand for the best.
    """
    path = Path(run_folder) / BEST
    try:
        found = json.loads(read_file(path, error=CheckpointError)) if os.path.lexists(path) else None
    except (CheckpointError, ValueError, RecursionError) as problem:
        raise _no_best(path, f"it cannot be read ({' '.join(str(problem).split())})") from problem
    if found is None:
        return None
    figures = [name for name in METRICS if type(found.get(name)) is float] if isinstance(found, dict) else []
    if len(figures) != 1 or type(found.get("step")) is not int or found["step"] < 0:
        raise _no_best(path, f"it holds no step and {' or '.join(METRICS)}")
    try:
        check_complete(checkpoint_path(run_folder, found["step"]))
    except CheckpointError as problem:
        raise _no_best(path, str(problem)) from problem
    return found


def _no_best(path: Path, why: str) -> CheckpointError:
    remedy = f"copy it again, name a checkpoint in {path.parent / 'checkpoints'} yourself, or remove {path.name} to take the newest"
    return CheckpointError(f"{path} does not say which checkpoint is the best: {why}; {remedy}")


def write_best(run_folder: str | Path, step: int, measured: dict[str, Any]) -> None:
    """Make the checkpoint of `step`, which must be complete, the one that the run is known by."""
    write_json(Path(run_folder) / BEST, {"step": step, **measured})


def chosen(run_folder: str | Path) -> Path | None:
    """The checkpoint that a run is known by: the best on validation classes where there was validation, else the newest."""
    best = read_best(run_folder)
    return checkpoint_path(run_folder, best["step"]) if best else latest(run_folder)


def prune(run_folder: str | Path, keep: int) -> list[Path]:
    """Delete all but the newest `keep` complete checkpoints of a run and its best one; returns what it deleted.

    Incomplete ones older than those kept go too. Raises ConfigError if `keep` < 1, CheckpointError if a folder cannot be deleted.
    """
    if keep < 1:
        raise ConfigError(f"cannot keep {keep} checkpoints: keep at least 1")
    best = read_best(run_folder)
    kept, deleted = 0, []
    for step, path in reversed(_steps(Path(run_folder) / "checkpoints")):
        if kept < keep:
            kept += is_complete(path)
        elif best is None or step != best["step"]:
            try:
                remove_folder(path)
            except OSError as problem:
                raise CheckpointError(f"cannot delete the old checkpoint {path}: {problem.strerror}; delete it by hand") from problem
            deleted.append(path)
    return deleted


def sweep(run_folder: str | Path) -> list[Path]:
    """Clear up after killed processes in a run folder; returns the temporary names removed or put back.

    Call it under the `RunLock`, before the first save.
    """
    run_folder = Path(run_folder)
    try:
        return sweep_orphans(run_folder) + sweep_orphans(run_folder / "checkpoints")
    except OSError as problem:
        raise CheckpointError(f"cannot clear up {run_folder}: {problem}; check that you may write there") from problem


def step_of(checkpoint: Path) -> int | None:
    """The step that a checkpoint's name says, None for a name of another kind."""
    match = _STEP.match(checkpoint.name)
    return int(match["step"]) if match and bool(match["hidden"]) == bool(match["old"]) else None


def _steps(checkpoints: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders with their step, oldest first; one that was set aside counts while its name is free."""
    found = []
    try:
        for path in checkpoints.iterdir() if checkpoints.exists() else ():
            step = step_of(path)
            if step is None or not path.is_dir():
                continue
            if path.name[0] != "." or not path.with_name(path.name[1:].partition(".")[0]).exists():
                found.append((step, path))
    except OSError as problem:
        raise CheckpointError(f"cannot read {checkpoints}: {problem.strerror}; it must be a folder that you may read") from problem
    return sorted(found)
