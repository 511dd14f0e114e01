"""kinshot's side of a training benchmark: the job of `ssl pretrain` on its own loop, loader and views, some steps at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.common import Clock
from kinshot.core.errors import Interrupted
from kinshot.datasets.base import Source
from kinshot.learn.loop import Run, StepResult, train
from kinshot.recipes.recipe import parse
from kinshot.runs.job import build


@dataclass
class Brake:
    """Stops the loop after some steps, as a signal would, and does nothing else: both its hooks and its stop request."""

    left: int = 0

    @property
    def requested(self) -> int | None:
        """The signal that the loop is told of."""
        return 2 if self.left <= 0 else None

    def after_step(self, run: Run, result: StepResult, epoch: int) -> None:
        """Count."""
        self.left -= 1

    def after_epoch(self, run: Run, epoch: int) -> None:
        """Nothing."""

    def save(self, run: Run) -> None:
        """Nothing."""

    def diverged(self, run: Run, indices: Tensor, reason: str) -> None:
        """Nothing; the loop raises."""


class JobRun:
    """A recipe's job that can be continued for some steps at a time.

    Args:
        recipe: as a file holds it; its data is not read.
        source: what the job gets directly.
    """

    def __init__(self, recipe: Mapping[str, Any], source: Source) -> None:
        self.job = build(parse(dict(recipe), "benchmark"), source)
        self.job.method.prepare(self.job.extract)

    def measure(self, steps: int, clock: Clock) -> float:
        """Samples per second over `steps` steps, the loop's start and end included."""
        job, brake = self.job, Brake(steps)
        started = clock()
        try:
            train(job.run, job.plan, job.batches, job.make_batch, job.extract, brake, brake)
        except Interrupted:
            return steps * job.recipe.train.batch_size / (clock() - started)
        raise RuntimeError("the plan ended before the measurement did")
