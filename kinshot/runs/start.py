"""Where a run starts: an empty folder, an earlier run to replace, or a checkpoint to continue. Only `clear` and `open_folder` write."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import Checkpoint, latest, load_checkpoint
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.core.run_files import CHECKPOINTS, is_begun, refuse_links, remove_run
from kinshot.core.runlock import LOCK, is_lock
from kinshot.core.small_files import read_json
from kinshot.learn.logger import check_loggers
from kinshot.recipes.fit import fit_like, made_by
from kinshot.recipes.loaded import with_recipe
from kinshot.recipes.loggers import parse_logger
from kinshot.recipes.recipe import Recipe, differences
from kinshot.runs.embedder import input_spec

_MAY_MOVE = {"data.root", "data.unreadable", "distill.teachers"}
"""Places: what lies there is compared with what the run began with (the data's fingerprint, the teachers' weights)."""


@dataclass(frozen=True)
class Options:
    """How one invocation runs a recipe.

    Args:
        out: run folder.
        resume: "never", "auto" (newest checkpoint in `out`, or a fresh start), or the path of a checkpoint.
        overwrite: delete an earlier run in `out`, once the first step of the new one has gone through.
        quiet: no progress on stderr.
        extend: epochs that the recipe adds to a finished run, which then goes on; 0 for none.
    """

    out: Path
    resume: str = "never"
    overwrite: bool = False
    quiet: bool = False
    extend: int = 0


@dataclass(frozen=True)
class Start:
    """What was found in a run folder.

    Args:
        checkpoint: the one to continue from, verified and of the same recipe, or None for a fresh run.
        replaces: whether an earlier run is to be deleted first.
        seen: what lay there; another process may have changed it by the time that the folder is locked.
    """

    checkpoint: Checkpoint | None
    replaces: bool
    seen: frozenset[tuple[str, int, int]]


def starting_point(recipe: Recipe, options: Options) -> Start:
    """Where a run may start. Reads only.

    Raises:
        ConfigError: the folder holds something else, or a run of other settings; or a logger is asked for that is not installed.
        CheckpointError: a checkpoint to continue from that cannot be read.
    """
    out = options.out
    check_loggers([parse_logger(text) for text in recipe.monitor.loggers])
    if options.overwrite and options.resume != "never":
        raise ConfigError("--overwrite and --resume contradict each other: give one of them")
    try:
        seen = _look(out)
        if options.resume == "never":
            return Start(None, _replaces(options), seen)
        path = resumed_from(options)
        if path is None:
            _check_fresh(out)
            return Start(None, False, seen)
        return Start(_continued(recipe, options, path), False, seen)
    except OSError as problem:  # a name of 300 characters, a folder that may not be looked into
        raise ConfigError(f"cannot use --out {out}: {problem.strerror}; choose another folder") from problem


def moved_on(start: Start, options: Options) -> bool:
    """Whether another process has written to the run folder since it was looked at."""
    return _look(options.out) != start.seen


def resumed_from(options: Options) -> Path | None:
    """The checkpoint that a run goes on from, not read yet; None for a fresh start. Raises CheckpointError or ConfigError."""
    if options.resume == "never":
        return None
    try:
        _look(options.out)
        return latest(options.out) if options.resume == "auto" else _newest(Path(options.resume))
    except OSError as problem:
        raise ConfigError(f"cannot use --out {options.out}: {problem.strerror}; choose another folder") from problem


def finished_result(out: Path, step: int, total: int) -> dict[str, Any] | None:
    """The result of a run whose last step is done and reported, or None."""
    report = out / "result.json"
    if step != total or not report.is_file():
        return None
    try:
        found = read_json(report)
    except DataError:
        return None  # written anew from the checkpoint
    return found if isinstance(found, dict) and found.get("steps") == step else None  # else that of before it was extended


def open_folder(out: Path) -> None:
    """Make the run folder. Raises ConfigError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create --out {out}: {error.strerror}; choose a folder that can be written") from error


def clear(start: Start, options: Options, say: Callable[[str], None]) -> None:
    """Under the lock: take the earlier run away where it is to be replaced; what is not a run's stays, and is said."""
    if not start.replaces:
        return
    kept = remove_run(options.out)
    say(f"removed the earlier run in {options.out}" + (f"; what is not a run's stays: {', '.join(kept)}" if kept else ""))


def _look(out: Path) -> frozenset[tuple[str, int, int]]:
    """What lies in a run folder and among its checkpoints: names, sizes, times. Raises ConfigError for what is no folder."""
    if not out.is_dir():
        if os.path.lexists(out):
            raise ConfigError(f"--out {out} is a {'link to nowhere' if out.is_symlink() else 'file'}; give a folder")
        return frozenset()
    refuse_links(out)
    held = [path for path in out.iterdir() if path.name != LOCK]
    held += (out / CHECKPOINTS).iterdir() if (out / CHECKPOINTS).is_dir() else ()
    return frozenset((str(path), stat.st_size, stat.st_mtime_ns) for path in held for stat in [path.lstat()])


def _replaces(options: Options) -> bool:
    """Whether there is a run to replace. Raises ConfigError for a folder that is neither empty nor may be emptied."""
    out = options.out
    if _is_empty(out):
        return False
    if not options.overwrite:
        remedy = "add --resume auto to continue it, --overwrite to replace it, or choose another folder"
        raise ConfigError(f"--out {out} is not empty: {remedy}")
    home, here = Path(os.path.expanduser("~")).resolve(), Path.cwd()
    if out.resolve() in {home, *home.parents, here, *here.parents}:
        raise ConfigError(f"--out {out} holds the current folder or your home, which --overwrite will not empty; choose another folder")
    if not is_begun(out):
        raise ConfigError(f"--out {out} is no run of kinshot, so --overwrite will not empty it; choose another folder")
    return True


def _check_fresh(out: Path) -> None:
    """Raise unless a run may begin in a folder that has no checkpoint."""
    if _is_empty(out):
        return
    if not is_begun(out):
        raise ConfigError(f"--out {out} is not empty and holds no run of kinshot; choose another folder")
    if (out / "result.json").exists():
        raise CheckpointError(
            f"{out} holds the result of a run and none of its checkpoints: copy them back, or start anew with --overwrite"
        )


def _is_empty(out: Path) -> bool:
    """Whether a folder is not there or holds nothing but the lock of a run that never began."""
    return not out.is_dir() or all(path.name == LOCK and is_lock(path) for path in out.iterdir())


def _continued(recipe: Recipe, options: Options, path: Path) -> Checkpoint:
    """The checkpoint at `path`, if a run of this recipe may go on from it in the folder that was asked for."""
    out = options.out
    checkpoint = load_checkpoint(path)
    if not _is_empty(out) and out.resolve() not in checkpoint.path.resolve().parents:
        raise ConfigError(f"--out {out} is not empty and {path} lies elsewhere: give a new --out, or --resume auto to continue {out}")
    input_spec(checkpoint)  # or an error that names the checkpoint
    begun = with_recipe(checkpoint)
    own = made_by(begun)
    if options.extend:
        own = _to_extend(own, recipe, options, checkpoint)
    changed = differences(own, fit_like(recipe, begun))
    told = [f"{key}: {before} -> {after}" for key, (before, after) in changed.items() if key not in _MAY_MOVE]
    if told:
        longer = f"to train longer, extend a finished run with --extend EPOCHS, or start from its encoder in a new --out with --init {out}"
        remedy = "leave out what differs, a run goes on with what it began with, or choose a new --out"
        hints = [longer] if {"train.epochs", "train.extend"} & changed.keys() else []
        raise ConfigError("\n  ".join([f"{path} was made by other settings; {remedy}:", *told, *hints]))
    return checkpoint


def _to_extend(own: Recipe, recipe: Recipe, options: Options, checkpoint: Checkpoint) -> Recipe:
    """What a finished run's recipe is with the epochs that are added. Raises ConfigError for a run that is not finished."""
    step, total = checkpoint.state["step"], checkpoint.state.get("total_steps")
    if step != total:
        raise ConfigError(f"{checkpoint.path} is at step {step} of {total}: let the run finish first, with --resume auto and no --extend")
    schedule = own.train.extend_schedule if own.train.extend else recipe.train.extend_schedule
    return replace(own, train=replace(own.train, extend=(*own.train.extend, options.extend), extend_schedule=schedule))


def _newest(path: Path) -> Path:
    """A run folder's newest checkpoint, not its best: that is where it goes on; another path as it is."""
    return latest(path) or path if (path / CHECKPOINTS).is_dir() else path
