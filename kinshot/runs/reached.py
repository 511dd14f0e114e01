"""How far training got: the step of a checkpoint, and whether the run that it belongs to was finished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import Checkpoint, chosen, latest
from kinshot.core.errors import CheckpointError, DataError, KinshotError
from kinshot.core.small_files import read_json
from kinshot.runs.sweep_folder import runs_of

ALLOW = "--allow-unfinished"
_NAMED = 5


@dataclass(frozen=True)
class Reached:
    """A checkpoint's place in its run.

    Args:
        step: optimizer steps behind it.
        of: steps of the whole run; None where its state does not say.
        finished: whether the run reached its last step, be it with a later checkpoint than this one; None where that is unknown.
        origin: how a backbone came to be that was not trained here; empty for others.
    """

    step: int
    of: int | None
    finished: bool | None
    origin: str = ""

    def __str__(self) -> str:
        """`step 20 of 30 of a run that was NOT finished`."""
        if self.origin:
            return self.origin
        if self.of is None:
            return f"step {self.step}"
        ended = "" if self.step == self.of else " of a finished run" if self.finished else " of a run that was NOT finished"
        return f"step {self.step} of {self.of}{ended}"


def reached(path: Path, state: dict[str, Any]) -> Reached:
    """How far the checkpoint in the folder `path` got; its run is finished when its newest checkpoint or its result has the last step."""
    step, of = int(state["step"]), state.get("total_steps")
    if not isinstance(of, int) or isinstance(of, bool):
        return Reached(step, None, None)
    return Reached(step, of, step >= of or _run_finished(path, of))


def reached_by(checkpoint: Checkpoint) -> Reached:
    """How far a loaded checkpoint got."""
    if checkpoint.origin:
        return Reached(0, None, None, checkpoint.origin)
    return reached(checkpoint.path, checkpoint.state)


def reached_text(checkpoints: Sequence[Checkpoint]) -> str:
    """The steps of several checkpoints for a table: one text where all are alike, else each by its run."""
    found = [str(reached_by(checkpoint)) for checkpoint in checkpoints]
    if len(set(found)) == 1:
        return found[0] if len(found) == 1 else f"each {found[0]}"
    return "; ".join(f"{run_folder(checkpoint.path)} {text}" for checkpoint, text in zip(checkpoints, found, strict=True))


def run_folder(path: Path) -> Path:
    """The run that a path means: that of a checkpoint `RUN/checkpoints/step-N`, else the path itself."""
    return path.parent.parent if path.parent.name == "checkpoints" else path


def refuse_unfinished(paths: Iterable[Path], allow: bool) -> None:
    """Raise CheckpointError naming the runs that never reached their last step, unless they are allowed.

    What cannot be read is passed over here: loading it says what is wrong.
    """
    if allow:
        return
    told = []
    for path in runs_of(list(paths)):
        at = _reached_at(path)
        if at is not None and at.finished is False:
            told.append(f"{path}: {at}")
    if told:
        more = [f"and {len(told) - _NAMED} more"] if len(told) > _NAMED else []
        remedy = f"finish training (--resume auto), or add {ALLOW} to measure what there is"
        raise CheckpointError("\n  ".join([f"training did not get to its end; {remedy}:", *told[:_NAMED], *more]))


def unfinished_notes(places: Iterable[str]) -> list[str]:
    """What to say of the runs that training starts from or learns from and that never reached their last step, a line for each."""
    found = ((place, _reached_at(Path(place))) for place in places if place and Path(place).is_dir())
    late = [(place, at) for place, at in found if at is not None and at.finished is False]
    return [f"warning: {place} did not get to the end of its training: {at}" for place, at in late]


def _reached_at(path: Path) -> Reached | None:
    """How far the checkpoint got that a path means, or None where nothing can be read."""
    try:
        place = path if (path / "state.json").is_file() else chosen(run_folder(path))
        return None if place is None else reached(place, _json(place / "state.json"))
    except (KinshotError, OSError, KeyError, TypeError, ValueError):
        return None


def _run_finished(path: Path, steps: int) -> bool:
    run = run_folder(path)
    if run == path:
        return False
    try:
        newest = latest(run)
    except CheckpointError:  # another checkpoint's damage, which no one asked for
        newest = None
    state = _json(newest / "state.json") if newest is not None else {}
    return state.get("step") == state.get("total_steps", -1) or _json(run / "result.json").get("steps") == steps


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}
