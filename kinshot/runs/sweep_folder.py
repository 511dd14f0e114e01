"""A sweep's folder read back: its runs, and the command that made them."""

from __future__ import annotations

from pathlib import Path

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.small_files import read_json

NOTE = "sweep.json"


def sweep_command(run: Path) -> str:
    """The command of the sweep that a run belongs to, empty for none."""
    try:
        return str(read_json(run.parent / NOTE)["command"])
    except (DataError, KeyError, TypeError):
        return ""  # no sweep, or a damaged note, which is no reason to fail


def runs_of(paths: list[Path]) -> list[Path]:
    """The paths, with each sweep's folder replaced by its runs. Raises ConfigError for a sweep without any."""
    found: list[Path] = []
    for path in paths:
        runs = sorted(child for child in path.iterdir() if child.is_dir()) if (path / NOTE).is_file() else [path]
        if not runs:
            raise ConfigError(f"{path} is a sweep without a run: run its command again")
        found += [run for run in runs if run.name != NOTE]
    return found
