"""`ssl pretrain`, `ssl distill`, `fewshot train` and `segmentation train`: run a recipe that is wired to its parts.

Reads in the order things happen: check the output folder, build the job, restore or prepare, train, close.
Raises ConfigError (2), DataError or CheckpointError (3), DivergedError (4), Interrupted (129, 130, 143).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from kinshot.core.checkpoint import Checkpoint, RunLock, sweep, unpack_optimizer
from kinshot.core.errors import CheckpointError, DataError
from kinshot.core.signals import StopRequest
from kinshot.datasets import SOURCES
from kinshot.learn.loop import train
from kinshot.recipes.fit import fit_like
from kinshot.recipes.loaded import with_recipe
from kinshot.recipes.recipe import Recipe
from kinshot.runs.begun import begun_with, ways_on
from kinshot.runs.diagnose import diagnose, report_lines
from kinshot.runs.embedder import input_spec
from kinshot.runs.hooks import RunHooks, Say
from kinshot.runs.job import Job, build
from kinshot.runs.rehearsal import first_step, rehearse
from kinshot.runs.start import Options, Start, clear, finished_result, moved_on, open_folder, starting_point
from kinshot.runs.state import load_state


@dataclass
class Ready:
    """A job that is built, and restored where it goes on; `finished` is the result of a run that has nothing left to do."""

    start: Start
    job: Job
    spent_cpu: float
    finished: dict[str, Any] | None


def train_recipe(recipe: Recipe, options: Options, say: Say) -> dict[str, Any]:
    """Run a recipe into `options.out`; returns the result that the command prints with `--json`."""
    started, cpu = time.perf_counter(), time.process_time()
    ready = _ready(recipe, options)
    if ready.finished is None:
        open_folder(options.out)
        with RunLock(options.out), StopRequest() as stop:
            if moved_on(ready.start, options):  # another process was faster: look again, now that nobody else writes here
                ready = _ready(recipe, options)
            if ready.finished is None:
                clear(ready.start, options, say)
                return _trained(ready, options, say, stop, started, cpu)
    say(f"{options.out} is complete already: nothing to do")
    return ready.finished


def _ready(recipe: Recipe, options: Options) -> Ready:
    """Everything that can fail before a run begins; nothing is written. What a checkpoint belongs to is compared also if it is the last."""
    start = starting_point(recipe, options)
    source, checkpoint = SOURCES.build(recipe.data.name, settings=recipe.data.settings), start.checkpoint
    if checkpoint is not None:
        source = begun_with(source, checkpoint)
        recipe = replace(recipe, encoder=fit_like(recipe, with_recipe(checkpoint)).encoder)  # `auto` may have been that of init
    job = build(recipe, source, input_spec(checkpoint) if checkpoint else None)
    if start.replaces:
        rehearse(job)
        job = build(recipe, source)
    spent = restore(job, checkpoint) if checkpoint else 0.0
    return Ready(start, job, spent, finished_result(options.out, job.run.step, job.plan.total_steps))


def _trained(ready: Ready, options: Options, say: Say, stop: StopRequest, started: float, cpu: float) -> dict[str, Any]:
    """The result of a run that begins or goes on in its locked folder."""
    job, checkpoint = ready.job, ready.start.checkpoint
    sweep(options.out)
    for note in job.notes:
        say(note)
    hooks = RunHooks(job, options.out, say, ready.spent_cpu - cpu, options.quiet)
    try:
        if job.graph is not None:
            found = diagnose(job.graph, job.source)
            for line in report_lines(found):
                say(line)
            hooks.graph(found)
        if checkpoint is None:
            job.run.learner.prepare(job.extract)
            hooks.before_first_step(job.run)
            hooks.save(job.run)
        else:
            say(f"resumed {checkpoint.path} at step {job.run.step} of {job.plan.total_steps}")
            if options.extend:
                say(f"extending it by {options.extend} epochs; train.extend_schedule={job.recipe.train.extend_schedule}")
        train(job.run, job.plan, job.batches, job.make_batch, job.extract, hooks, stop)
        return hooks.finish(job.run, time.perf_counter() - started)
    except DataError as error:
        raise ways_on(error, job.source, job.run.step) from error
    finally:
        hooks.close()


def restore(job: Job, checkpoint: Checkpoint) -> float:
    """Put a checkpoint's state into a freshly built job; returns the CPU seconds spent so far. Raises CheckpointError."""
    tensors, state = checkpoint.training, checkpoint.state
    job.begun = state
    parts: dict[str, dict[str, Tensor]] = {"optimizer": {}, "average": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    if not job.data.whole.known_as(str(state.get("source"))):
        raise CheckpointError(
            f"{checkpoint.path} was trained on other data than {job.source.name} holds now; "
            "resume with the data it started with, of which a twentieth may be gone, or start a new --out"
            + (
                ""
                if "data/keys" in tensors
                else " (an early version wrote it, which knew files by their times: copies of them it cannot tell)"
            )
        )
    try:
        load_state(job.run.learner, tensors)
        unpack_optimizer(job.run.optimizer, parts["optimizer"], state["optimizer"])
        if job.run.average is not None:
            job.run.average.load(parts["average"])
        job.run.step = int(state["step"])
        before = state.get("computed")
        job.computed = list(dict.fromkeys([*(map(str, before) if isinstance(before, list) else ["not recorded"]), *job.computed]))
        if job.run.step > job.plan.total_steps:
            raise ValueError(f"it stands at step {job.run.step}, and the run has {job.plan.total_steps}")
    except (AttributeError, CheckpointError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path} does not fit this recipe: {error}; resume with the recipe it was written by") from error
    return float(state.get("cpu_seconds", 0.0))


def dry_run(recipe: Recipe, options: Options) -> dict[str, Any]:
    """Build everything and run one step forward and backward on real samples; writes nothing."""
    starting_point(recipe, options)
    source = SOURCES.build(recipe.data.name, settings=recipe.data.settings)
    job = build(recipe, source)
    learner = job.run.learner
    started = time.perf_counter()
    terms = first_step(job)
    count = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    return {
        "recipe": recipe.name,
        "data": {"name": source.name, "samples": len(source), "shape": list(job.source.shape)},
        "trainable_parameters": count,
        "state_megabytes": round(sum(v.numel() * v.element_size() for v in learner.state_dict().values()) / 1e6, 2),
        "steps_per_epoch": job.plan.steps_per_epoch,
        "total_steps": job.plan.total_steps,
        "loss": {name: round(float(value.detach()), 4) for name, value in terms.items()},
        "first_step_seconds": round(time.perf_counter() - started, 3),
        "notes": job.notes,
        "out": str(options.out),
        "input": job.input.to_dict(),
    }
