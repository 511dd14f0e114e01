"""Choosing the checkpoint of a run by episodes of validation classes, which are neither trained on nor tested."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.run_folder import checkpoint_path, is_complete, read_best, write_best
from kinshot.datasets import SOURCES
from kinshot.datasets.bundle import as_taken
from kinshot.recipes.recipe import Recipe, ValidationConfig
from kinshot.recipes.splits import validation_data

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from kinshot.datasets.base import Source
    from kinshot.learn.monitor import Monitor
    from kinshot.runs.job import Job


class Validator(ABC):
    """A figure of validation episodes, the same ones every time, and the best so far.

    What was best is in every checkpoint, and `best.json` is written after it: a run that goes on writes it anew from the state of the
    checkpoint that it `begun` with, because one that was killed may have had no time for it.

    Args:
        job: the run.
        out: its folder.

    Raises:
        ConfigError: data without such a split, or a head that cannot do it.
        DataError: validation classes that cannot give the episodes.
    """

    metric: ClassVar[str]
    """What is measured, in percent, as `best.json` calls it."""

    def __init__(self, job: Job, out: Path) -> None:
        self.settings: ValidationConfig = job.recipe.validation
        self.out = out
        self.source = as_taken(validation_source(job.recipe), job.input)
        self.drawn = self.prepare(job)
        self.best = _best(out, self.metric, job.begun)
        if self.best["step"] >= 0 and is_complete(checkpoint_path(out, self.best["step"])):
            self.write()

    @abstractmethod
    def prepare(self, job: Job) -> str:
        """Draw the episodes and try the head; gives the hash of the episodes."""

    @abstractmethod
    def measure(self, job: Job, monitor: Monitor) -> float:
        """The figure of the weights that the run would export now; may leave pictures with the monitor."""

    @property
    def task(self) -> str:
        """What is measured, in words."""
        return f"{self.settings.ways}-way {self.settings.shots}-shot, {self.settings.split}"

    def figures(self, job: Job) -> np.ndarray:
        """The figure of each episode of the weights that the model has now, in percent, (E,)."""
        raise NotImplementedError(f"{type(self).__name__} tells no figure of each episode")  # a contract: for methods without labels

    def said(self) -> list[str]:
        """What is to be said of the validation data before anything is measured."""
        return []

    def improved(self, step: int, value: float) -> bool:
        """Whether the run is better than ever, which `best` then says; `write` it once the checkpoint of `step` is complete."""
        if value <= self.best[self.metric] and step != self.best["step"]:
            return False
        self.best = {"step": step, self.metric: value}
        return True

    def write(self) -> None:
        """Make the checkpoint of the best step the run's chosen one."""
        measured = {self.metric: self.best[self.metric], "on": self.source.name, "episodes": self.drawn[:12]}
        write_best(self.out, self.best["step"], measured)


def validation_source(recipe: Recipe) -> Source:
    """The recipe's own data with the split that `validation` names. Raises ConfigError where the data has no such split."""
    data, choice = recipe.data, validation_data(recipe)
    split = choice.settings["split"]
    if "split" not in SOURCES.entry(data.name).parameters:
        raise ConfigError(f"validation.split is {split!r}, but {data.name} has no splits: leave validation out, or use data that has them")
    if data.settings["split"] == split:
        raise ConfigError(f"validation.split and data.split are both {split!r}: a checkpoint is chosen on classes that it never saw")
    found: Source = SOURCES.build(choice.name, settings=choice.settings)
    return found


def head_weights(job: Job, head: str) -> dict[str, Tensor] | None:
    """What the method trains for the very head that validates, where it trains anything for one."""
    network = job.run.learner.model.network
    trained = network is not None and job.method.trains_head == head
    return dict(network.state_dict()) if network is not None and trained else None


def _best(out: Path, metric: str, begun: Mapping[str, Any] | None) -> dict[str, Any]:
    """The best step so far and its figure; step -1 before the first measurement. Raises CheckpointError."""
    found = (begun or {}).get("best")
    if begun is not None and found is None:  # checkpoints of older versions do not say
        found = read_best(out)
    if found is None:
        return {"step": -1, metric: -1.0}
    if not isinstance(found, dict) or type(found.get("step")) is not int or not isinstance(found.get(metric), float):
        raise CheckpointError(f"the newest checkpoint of {out} says {found!r} of the best step: use another one or copy it again")
    return {"step": found["step"], metric: found[metric]}
