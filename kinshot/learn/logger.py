"""What a logger is: somebody who is told what a run records, as it is recorded."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kinshot.core.errors import ConfigError, KinshotError
from kinshot.learn.loggers import LOGGERS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

TIMING = "time/"
"""What tags of measured times begin with, which no two runs share."""
Chosen = tuple[str, Mapping[str, Any]]
"""A logger's name, and its settings."""


@dataclass
class LoggedRun:
    """What a logger may know of the run that it is built for.

    Args:
        folder: the run's.
        name: of its recipe.
        config: every setting of it, flat, by dotted name.
        resume_step: steps done in the checkpoint that this process continues; -1 for a run that begins.
        records: what was recorded up to there, without times: {"step": ..., "epoch": ..., tag: value, ...}, null for what is not finite.
        known: what this logger keeps between the processes of a run, such as the name that a server knows it by; what it changes is kept.
    """

    folder: Path
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    resume_step: int = -1
    records: Sequence[Mapping[str, Any]] = ()
    known: dict[str, Any] = field(default_factory=dict)


class Logger:
    """Base of loggers, which overrides what it has a use for. Values are plain numbers, and may be NaN or infinite.

    A run that goes on begins after the records of `run.records`: what a killed process recorded later comes again, with the same values.
    Where a logger raises, it is told and left alone, and training goes on; unless it is `part_of_run`: then the run stops, as it does
    where its own records cannot be written.
    """

    part_of_run: ClassVar[bool] = False

    def scalars(self, step: int, epoch: int | None, values: Mapping[str, float]) -> None:
        """One record: numbers by tag (`train/loss`)."""

    def text(self, tag: str, text: str) -> None:
        """A text of the run, as Markdown."""

    def picture(self, tag: str, picture: Tensor | np.ndarray, step: int) -> None:
        """A picture, (3, H, W) in [0, 1] or uint8 (H, W, 3); there are some where TensorBoard is on, too."""

    def embedding(self, z: Tensor, names: Sequence[str] | None, pictures: Tensor | None, step: int) -> None:
        """Embeddings (N, D), on the CPU, with a name and a thumbnail for each row where there are any."""

    def result(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Once, at the end: every setting by dotted name, and the last figures."""

    def flush(self) -> None:
        """Wait until everything is where it belongs, as far as that is known here."""

    def close(self) -> None:
        """The end of this process's part. Called once."""


def check_loggers(chosen: Sequence[Chosen]) -> None:
    """Raise ConfigError, with the command that installs it, where a logger stands on a package that is not there."""
    for name, _ in chosen:
        facts = LOGGERS.entry(name).facts
        package = facts.get("package")
        if package and importlib.util.find_spec(package) is None:
            install = facts.get("install", f"pip install {package}")
            raise ConfigError(f"logger {name} needs the package {package}, which is not installed: {install}, or leave the logger out")


def open_logger(name: str, run: LoggedRun, settings: Mapping[str, Any]) -> Logger:
    """A logger that is ready to be told.

    Raises:
        ConfigError: a bad setting, or whatever its library says at its start, before any step is taken.
        OSError: its files, which are part of the run, cannot be written.
    """
    checked, problems = LOGGERS.check(name, dict(settings))
    if problems:
        raise ConfigError("; ".join(problems))
    part: Any = LOGGERS.get(name)
    try:
        logger: Logger = part(run, **checked)
    except KinshotError:
        raise
    except Exception as problem:  # other people's libraries raise anything, and a server that is gone is an OSError too
        if part.part_of_run and isinstance(problem, OSError):
            raise
        said = " ".join(str(problem).split()) or "no reason given"
        raise ConfigError(f"logger {name} cannot start ({type(problem).__name__}: {said}): mend that, or leave the logger out") from problem
    return logger
