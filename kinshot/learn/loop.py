"""The one training loop: keyed batches in, guarded steps, checkpoints at step boundaries.

Everything that decides the weights is a function of (seed, epoch, step, sample) and of the saved state, so a run that
was stopped anywhere and resumed continues bit for bit (same device type, same number of threads).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from kinshot.core.errors import DivergedError, Interrupted
from kinshot.encoders.freezing import check_learns
from kinshot.learn.learner import Learner
from kinshot.learn.optim import WeightAverage, set_lr
from kinshot.samples.batch import Batch, Loaded, moved

Batches = Callable[[int, int], Iterator[tuple[Loaded, Tensor]]]
"""(epoch, first step within it) -> batches of (samples as their source gives them, int64 sample indices)."""


@dataclass(frozen=True)
class Plan:
    """What stays fixed during a run.

    Args:
        epochs: passes over the data.
        steps_per_epoch: steps in one pass.
        lr: learning rate as a function of the 0-based step.
        clip: largest gradient norm, or none.
        device: where to compute.
        autocast: dtype of autocast, or none for full precision.
        seed: key of every random draw.
        log_every: steps between records.
        checkpoint_steps: steps between checkpoints.
    """

    epochs: int
    steps_per_epoch: int
    lr: Callable[[int], float]
    clip: float | None
    device: torch.device
    autocast: torch.dtype | None
    seed: int
    log_every: int
    checkpoint_steps: int

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        return self.epochs * self.steps_per_epoch


@dataclass
class Run:
    """What moves during a run, and is in its checkpoints."""

    learner: Learner
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None
    step: int = 0


@dataclass
class StepResult:
    """What one step leaves to look at: detached loss terms, gauges, the batch, and the time it took."""

    terms: dict[str, Tensor]
    gauges: dict[str, Any]
    batch: Batch
    lr: float
    grad_norm: Tensor
    seconds: float = 0.0
    data_seconds: float = 0.0


class Hooks(Protocol):
    """What surrounds the loop: records, probes and checkpoints."""

    def after_step(self, run: Run, result: StepResult, epoch: int) -> None:
        """Called after every step with its result."""

    def after_epoch(self, run: Run, epoch: int) -> None:
        """Called after the last step of every epoch, before the checkpoint that may be due."""

    def save(self, run: Run) -> None:
        """Write a checkpoint of the current step."""

    def diverged(self, run: Run, indices: Tensor, reason: str) -> None:
        """Record what is known of a loss or gradient that is not finite."""


def train(
    run: Run, plan: Plan, batches: Batches, make_batch: Callable[..., Batch], extract: Callable[..., Tensor], hooks: Hooks, stop: Any
) -> None:
    """Train from `run.step` to the end of the plan.

    Raises DivergedError before an update with a loss or gradient that is not finite, and Interrupted after the
    checkpoint that a signal asked for (`stop.requested` holds the signal's number or None).
    """
    run.learner.train()
    for epoch in range(run.step // plan.steps_per_epoch, plan.epochs):
        first = run.step - epoch * plan.steps_per_epoch
        begins = first == 0 and run.learner.start_epoch(epoch, extract)
        if begins:
            run.optimizer.state.clear()  # moments of weights that are left behind
        clock = time.perf_counter()
        for samples, indices in batches(epoch, first):
            waited = time.perf_counter() - clock
            result = _step(run, plan, samples, indices, make_batch, epoch, hooks)
            result.data_seconds, result.seconds = waited, time.perf_counter() - clock
            hooks.after_step(run, result, epoch)
            if run.step % plan.steps_per_epoch == 0:
                hooks.after_epoch(run, epoch)
            if stop.requested is not None or run.step % plan.checkpoint_steps == 0 or run.step == plan.total_steps:
                hooks.save(run)
            if stop.requested is not None and run.step < plan.total_steps:
                raise Interrupted(f"stopped by signal {stop.requested} after step {run.step}; continue with --resume auto", stop.requested)
            clock = time.perf_counter()


def _step(run: Run, plan: Plan, samples: Loaded, indices: Tensor, make_batch: Any, epoch: int, hooks: Hooks) -> StepResult:
    step = run.step
    batch = make_batch(moved(samples, plan.device), indices, seed=plan.seed, epoch=epoch, step=step)
    with _autocast(plan):
        terms = run.learner.loss(batch, step)
    _guard(terms["loss"].detach(), "loss", run, batch.indices, hooks)
    check_learns(terms["loss"])
    run.optimizer.zero_grad(set_to_none=True)
    terms["loss"].backward()
    norm = _gradient_norm(run.optimizer, plan.clip)
    _guard(norm, "gradient norm", run, batch.indices, hooks)
    lr = plan.lr(step)
    set_lr(run.optimizer, lr)
    run.optimizer.step()
    gauges = run.learner.after_step(step)
    if run.average is not None:
        run.average.update(run.learner.model.state_dict(), step)
    run.step = step + 1
    return StepResult({name: value.detach() for name, value in terms.items()}, gauges, batch, lr, norm)


def _autocast(plan: Plan) -> contextlib.AbstractContextManager[Any]:
    if plan.autocast is None:
        return contextlib.nullcontext()
    return torch.autocast(plan.device.type, dtype=plan.autocast)


def _gradient_norm(optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return norm


def _guard(value: Tensor, what: str, run: Run, indices: Tensor, hooks: Hooks) -> None:
    if not torch.isfinite(value):
        reason = f"{what} is {float(value)} at step {run.step}"
        hooks.diverged(run, indices, reason)
        raise DivergedError(
            f"{reason}: nothing was updated and the last checkpoint is unharmed; "
            "lower train.lr, set train.clip=1, or use train.precision=fp32"
        )
