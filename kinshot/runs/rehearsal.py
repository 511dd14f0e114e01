"""A first step on real samples that leaves nothing behind: what `--dry-run` shows, and what comes before an earlier run is deleted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kinshot.core.errors import DivergedError
from kinshot.encoders.freezing import check_learns
from kinshot.runs.hooks import RunHooks
from kinshot.samples.batch import moved

if TYPE_CHECKING:
    from kinshot.runs.job import Job


def first_step(job: Job) -> dict[str, Tensor]:
    """The loss and its terms of a freshly built job's first batch, forward and backward; the job is spent afterwards."""
    learner, device = job.run.learner, job.plan.device
    samples, indices = next(iter(job.batches(0, 0)))
    learner.train()
    learner.prepare(job.extract)
    learner.start_epoch(0, job.extract)
    batch = job.make_batch(moved(samples, device), indices, seed=job.recipe.seed, epoch=0, step=0)
    with torch.autocast(device.type, dtype=job.plan.autocast, enabled=job.plan.autocast is not None):
        terms = learner.loss(batch, 0)
    check_learns(terms["loss"])
    terms["loss"].backward()
    return terms


def rehearse(job: Job) -> None:
    """Raise what would end the run at its beginning: an error of its records, validation or first step, or a loss that is not finite.

    The job is spent afterwards: build another.
    """
    with tempfile.TemporaryDirectory(prefix="kinshot-") as place:
        RunHooks(job, Path(place), lambda text: None, 0.0, quiet=True, loggers=False).close()
    loss = first_step(job)["loss"].detach()
    if not torch.isfinite(loss):
        raise DivergedError(
            f"the loss of the first step is {float(loss)}; the earlier run was left as it is. Lower train.lr or check the data"
        )
