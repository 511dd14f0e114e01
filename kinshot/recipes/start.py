"""Where a run starts: an empty folder, an earlier run to replace, or a checkpoint to continue. Nothing is written before it is clear."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import Checkpoint, RunLock, latest, load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.recipes.fit import fit_like, made_by
from kinshot.recipes.recipe import Recipe, differences

_MAY_MOVE = {"data.root", "distill.teachers"}
"""Places: what lies there is compared with what the run began with (the data's fingerprint, the teachers' weights)."""


@dataclass(frozen=True)
class Options:
    """How one invocation runs a recipe.

    Args:
        out: run folder.
        resume: "never", "auto" (newest checkpoint in `out`, or a fresh start), or the path of a checkpoint.
        overwrite: delete an earlier run in `out`.
        quiet: no progress on stderr.
    """

    out: Path
    resume: str = "never"
    overwrite: bool = False
    quiet: bool = False


def starting_point(recipe: Recipe, options: Options) -> Checkpoint | None:
    """The checkpoint to continue from, verified and of the same recipe, or None for a fresh run."""
    out = options.out
    if options.overwrite and options.resume != "never":
        raise ConfigError("--overwrite and --resume contradict each other: give one of them")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; give a folder")
    if options.resume == "never":
        if out.is_dir() and any(out.iterdir()):
            if not options.overwrite:
                remedy = "add --resume auto to continue it, --overwrite to replace it, or choose another folder"
                raise ConfigError(f"--out {out} is not empty: {remedy}")
            if not _is_run(out):
                raise ConfigError(f"--out {out} is no run of kinshot, so --overwrite will not delete it; choose another folder")
        return None
    path = latest(out) if options.resume == "auto" else _newest(Path(options.resume))
    if path is None:
        if out.is_dir() and any(out.iterdir()) and not _is_run(out):
            raise ConfigError(f"--out {out} is not empty and holds no run of kinshot; choose another folder")
        return None
    checkpoint = load_checkpoint(path)
    if out.is_dir() and any(out.iterdir()) and out.resolve() not in checkpoint.path.resolve().parents:
        raise ConfigError(f"--out {out} is not empty and {path} lies elsewhere: give a new --out, or --resume auto to continue {out}")
    changed = differences(made_by(checkpoint), fit_like(recipe, checkpoint))
    told = [f"{key}: {before} -> {after}" for key, (before, after) in changed.items() if key not in _MAY_MOVE]
    if told:
        raise ConfigError("\n  ".join([f"{path} was made by other settings; use the same recipe and overrides, or a new --out:", *told]))
    return checkpoint


def finished_result(out: Path, checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    """The result of a run whose last step is done and reported, or None."""
    report = out / "result.json"
    if checkpoint is None or checkpoint.state["step"] != checkpoint.state.get("total_steps") or not report.is_file():
        return None
    try:
        return json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # written anew from the checkpoint


def _newest(path: Path) -> Path:
    """A run folder's newest checkpoint, not its best: that is where it goes on; another path as it is."""
    return latest(path) or path if (path / "checkpoints").is_dir() else path


def _is_run(out: Path) -> bool:
    return any((out / name).exists() for name in ("checkpoints", "metrics.jsonl", ".lock"))


def open_folder(options: Options, checkpoint: Checkpoint | None) -> None:
    """Make the run folder; with `overwrite`, after deleting the earlier run in it. Raises ConfigError."""
    if options.overwrite and checkpoint is None and options.out.is_dir():
        with RunLock(options.out):  # never delete a run that is going on
            pass
        shutil.rmtree(options.out)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create --out {options.out}: {error.strerror}; choose a folder that can be written") from error
