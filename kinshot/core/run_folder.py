"""The checkpoints of a run: which is the newest, which may go, and what a killed process left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kinshot.core.atomic import remove_folder, sweep_orphans, write_json
from kinshot.core.checkpoint_files import read_manifest
from kinshot.core.errors import CheckpointError, ConfigError

BEST = "best.json"
_STEP = re.compile(r"^(?P<hidden>\.?)step-(?P<step>\d+)(?P<old>\.old-\d+)?$")


def checkpoint_path(run_folder: str | Path, step: int) -> Path:
    """Where a run keeps the checkpoint of `step`: `RUN/checkpoints/step-00001234`."""
    return Path(run_folder) / "checkpoints" / f"step-{step:08d}"


def is_complete(folder: str | Path) -> bool:
    """Whether `folder` has a valid manifest and every file in it at its size (contents are not hashed: `load_checkpoint` does)."""
    folder = Path(folder)
    try:
        listed = read_manifest(folder)
        return all((folder / name).stat().st_size == entry["bytes"] for name, entry in listed.items())
    except (CheckpointError, OSError):
        return False


def latest(run_folder: str | Path) -> Path | None:
    """The newest complete checkpoint of a run, by step number, or None. Incomplete ones are passed over."""
    for _, path in reversed(_steps(Path(run_folder) / "checkpoints")):
        if is_complete(path):
            return path
    return None


def read_best(run_folder: str | Path) -> dict[str, Any] | None:
    """What `write_best` wrote, while the checkpoint that it names is complete; else None."""
    try:
        found = json.loads((Path(run_folder) / BEST).read_text(encoding="utf-8"))
        complete = is_complete(checkpoint_path(run_folder, int(found["step"])))
        return found if complete and isinstance(found["accuracy"], float) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


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


def _steps(checkpoints: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders with their step, oldest first; one that was set aside counts while its name is free."""
    found = []
    for path in checkpoints.iterdir() if checkpoints.is_dir() else ():
        match = _STEP.match(path.name)
        if match is None or bool(match["hidden"]) != bool(match["old"]) or not path.is_dir():
            continue
        if not match["old"] or not path.with_name(f"step-{match['step']}").exists():
            found.append((int(match["step"]), path))
    return sorted(found)
