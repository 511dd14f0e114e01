"""`ssl pretrain`, `ssl distill` and `fewshot train`: wire a recipe to its parts and run the loop.

Reads in the order things happen: check the output folder, build data and model, restore or prepare, train, close.
Raises ConfigError (2), DataError or CheckpointError (3), DivergedError (4), Interrupted (129, 130, 143).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinshot.core.checkpoint import Checkpoint, RunLock, sweep, unpack_optimizer
from kinshot.core.context import RunContext
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.core.runtime import (
    allocator_obstacle,
    describe_compute,
    deterministic,
    resolve_device,
    resolve_precision,
    set_threads,
    tune_allocator,
)
from kinshot.core.signals import StopRequest
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.datasets.loader import Order, batches
from kinshot.datasets.orders import ORDERS
from kinshot.datasets.views import VIEWS
from kinshot.encoders.freezing import freeze
from kinshot.kin.graph import RelationGraph
from kinshot.learn import METHODS
from kinshot.learn.features import extract, joint_feature
from kinshot.learn.loop import Plan, Run, train
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.optim import WeightAverage, build_optimizer, extended_factor
from kinshot.recipes.check import check_small_views, check_view_count
from kinshot.recipes.fit import filled_in, fit
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import Recipe, learns_from_labels
from kinshot.runs.begun import begun_with, stand_in_notes, ways_on
from kinshot.runs.diagnose import diagnose, report_lines
from kinshot.runs.embedder import build_model, initial_input, initialize, input_spec
from kinshot.runs.hooks import RunHooks, Say
from kinshot.runs.inputs import BatchMaker, companions_of
from kinshot.runs.reached import unfinished_notes
from kinshot.runs.rehearsal import first_step, rehearse
from kinshot.runs.start import Options, Start, clear, finished_result, moved_on, open_folder, starting_point
from kinshot.runs.state import load_state
from kinshot.runs.terms import learner_of
from kinshot.samples.spec import Spec, input_of


@dataclass
class Job:
    """A recipe wired to its parts; `computed` says what its steps were computed with, several where a run went on elsewhere,
    and `begun` is the state of the checkpoint that it goes on from, none for a run that begins.
    """

    recipe: Recipe
    source: Source
    input: Spec
    run: Run
    plan: Plan
    make_batch: BatchMaker
    notes: list[str]
    graph: RelationGraph | None = None
    computed: list[str] = field(default_factory=list)
    begun: dict[str, Any] | None = None
    order: Order | None = None

    @property
    def method(self) -> Method:
        """The method being trained."""
        return self.run.learner.method

    def extract(self, head: torch.nn.Module | None = None) -> Tensor:
        """Head output of every training sample: evaluation mode, no augmentation, float32 (N, D) on the CPU."""
        return self.embed(head)

    def embed(self, head: torch.nn.Module | None = None, rows: np.ndarray | None = None) -> Tensor:
        """The same for all samples or some `rows`."""
        return extract(Features(self.method, head), self.source, self.make_batch.clean, rows=rows, device=self.plan.device)["z"]

    def embed_source(self, source: Source, rows: np.ndarray | None = None) -> dict[str, Tensor]:
        """Features by name, `joint` among them, of another source of the same kind of samples, or of some of its `rows`."""
        found = extract(self.run.learner.model.features, source, self.make_batch.clean, rows=rows, device=self.plan.device)
        return {**found, "joint": joint_feature(found)}

    def batches(self, epoch: int, first: int) -> Any:
        """This epoch's batches from step `first` of it."""
        t = self.recipe.train
        more = companions_of(self.run.learner)
        return batches(self.source, t.batch_size, self.recipe.seed, epoch, first, t.workers, companions=more, order=self.order)


class Features(torch.nn.Module):
    """A method's encoder with one of its heads (projector unless told): normalised images in, {"z": (B, D)} out."""

    def __init__(self, method: Method, head: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.head = method.encoder, head or method.projector

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Embeddings of a batch."""
        return {"z": self.head(self.encoder(x))}


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


def build(recipe: Recipe, source: Source, input: Spec | None = None) -> Job:
    """The recipe's model, method, optimizer and plan for a source.

    A fresh run, one without `input`, draws its initial weights, or takes the encoder's from `recipe.init`; a resumed one is given
    the input that its encoder was made for, and its weights come later.
    """
    given = read(Path(recipe.init), parts=("encoder",)) if recipe.init and input is None else None
    if input is None:
        input = input_of(source) if given is None else initial_input(given.checkpoint, source)
    written, recipe = recipe, fit(recipe, input, len(source), given)
    t = recipe.train
    device = resolve_device(t.device)
    precision, reason = resolve_precision(t.precision, device)
    allocator = tune_allocator() if t.allocator else "allocator: left as it is (train.allocator=false)"
    if t.threads:
        set_threads(t.threads)
    if t.deterministic:
        deterministic()
    encoder, projector = build_model(recipe, input)
    if given is not None:
        initialize(encoder, given, recipe)
    freeze(encoder, t.freeze)
    steps = len(source) // t.batch_size
    if steps == 0:
        raise ConfigError(f"train.batch_size is {t.batch_size} but {source.name} has {len(source)} samples; lower train.batch_size")
    parts = [steps * epochs for epochs in (t.epochs, *t.extend)]
    context = RunContext(len(source), t.batch_size, steps, sum(parts), recipe.seed, _labels(recipe, source))
    method = METHODS.build(recipe.method.name, Model(encoder, projector), context, settings=recipe.method.settings)
    graph = GRAPHS.build(recipe.graph.name, source, settings=recipe.graph.settings) if recipe.graph else None
    learner = learner_of(recipe, method, source, input, context, device, graph).to(device)
    if t.channels_last:
        learner = learner.to(memory_format=torch.channels_last)
    if t.encoder_lr != 1:
        encoder.lr_scale = t.encoder_lr  # type: ignore[assignment]
    optimizer = build_optimizer(t.optimizer, learner, lr=t.lr, weight_decay=t.weight_decay, momentum=t.momentum)
    average = WeightAverage(learner.model.state_dict(), t.ema) if t.ema else None
    course = partial(
        extended_factor, parts=parts, restart=t.extend_schedule == "restart", schedule=t.schedule, warmup=t.warmup, final=t.final_lr
    )
    plan = Plan(
        epochs=t.epochs + sum(t.extend),
        steps_per_epoch=steps,
        lr=lambda step: t.lr * course(step),
        clip=t.clip,
        device=device,
        autocast=torch.bfloat16 if precision == "bf16" else None,
        seed=recipe.seed,
        log_every=recipe.monitor.log_every,
        checkpoint_steps=max(1, round(recipe.monitor.checkpoint_every * steps)),
    )
    views = VIEWS.build(recipe.views.name, input, settings=recipe.views.settings)
    check_view_count(method.view_count, recipe.method.name, recipe.views)
    check_small_views(encoder, recipe.views, input.side)
    threads = f"device: {device}, {torch.get_num_threads()} threads"
    notes = [threads, f"precision: {precision} ({reason})", allocator or f"allocator: {allocator_obstacle()}"]
    notes += stand_in_notes(source) + filled_in(written, recipe) + unfinished_notes([recipe.init, *recipe.teachers])
    make_batch = BatchMaker(views, input, learner, t.batch_size)
    computed = [describe_compute(precision, device)]
    order, run = _order(recipe, method, source, steps), Run(learner, optimizer, average)
    return Job(recipe, source, input, run, plan, make_batch, notes, graph, computed, order=order)


def _order(recipe: Recipe, method: Method, source: Source, steps: int) -> Order | None:
    """Which samples make up each batch: the method's own order, or the recipe's; None shuffles. Raises ConfigError for both."""
    if method.order is not None and recipe.order is not None:
        raise ConfigError(f"order: method {recipe.method.name} chooses its own batches: leave order out")
    if recipe.order is None:
        return method.order
    labels = np.full(len(source), -1) if source.labels is None else np.asarray(source.labels)
    order: Order = ORDERS.build(recipe.order.name, labels, recipe.train.batch_size, steps, recipe.seed, settings=recipe.order.settings)
    return order


def _labels(recipe: Recipe, source: Source) -> Tensor | None:
    """Class labels for a method that learns from them; the others never see any."""
    given = learns_from_labels(recipe) and source.labels is not None
    return torch.from_numpy(np.asarray(source.labels, dtype=np.int64)) if given else None


def restore(job: Job, checkpoint: Checkpoint) -> float:
    """Put a checkpoint's state into a freshly built job; returns the CPU seconds spent so far. Raises CheckpointError."""
    tensors, state = checkpoint.training, checkpoint.state
    job.begun = state
    parts: dict[str, dict[str, Tensor]] = {"optimizer": {}, "average": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    if not job.source.known_as(str(state.get("source"))):
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
        "data": {"name": source.name, "samples": len(source), "shape": list(source.shape)},
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
