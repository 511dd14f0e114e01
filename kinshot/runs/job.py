"""A recipe wired to its parts: data, model, method, terms, optimizer and plan, ready to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.runtime import (
    allocator_obstacle,
    describe_compute,
    deterministic,
    resolve_device,
    resolve_precision,
    set_threads,
    tune_allocator,
)
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.datasets.labels import Marks
from kinshot.datasets.loader import Order, batches
from kinshot.datasets.orders import ORDERS
from kinshot.datasets.scenes import PHOTO
from kinshot.encoders.freezing import freeze, keep_statistics
from kinshot.kin.graph import RelationGraph
from kinshot.learn import METHODS
from kinshot.learn.depth import share_by_depth
from kinshot.learn.features import extract, joint_feature
from kinshot.learn.learner import Learner
from kinshot.learn.loop import Plan, Run
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.optim import WeightAverage, build_optimizer, extended_factor
from kinshot.recipes.check import check_small_views, check_view_count
from kinshot.recipes.fit import filled_in, fit
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import Recipe, learns_from_labels
from kinshot.runs.begun import stand_in_notes
from kinshot.runs.data import Data, data_of, with_wrong_labels
from kinshot.runs.embedder import build_model, initial_input, initialize
from kinshot.runs.init_notes import init_notes
from kinshot.runs.inputs import BatchMaker, build_views, companions_of
from kinshot.runs.reached import unfinished_notes
from kinshot.runs.terms import learner_of
from kinshot.samples.spec import Spec, check_kind, input_of


@dataclass
class Job:
    """A recipe wired to its parts; `computed` says what its steps were computed with, several where a run went on elsewhere,
    and `begun` is the state of the checkpoint that it goes on from, none for a run that begins.
    """

    recipe: Recipe
    data: Data
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
    def source(self) -> Source:
        """The training samples as the encoder takes them."""
        return self.data.seen

    @property
    def method(self) -> Method:
        """The method being trained."""
        return self.run.learner.method

    def extract(self, head: torch.nn.Module | None = None, rows: np.ndarray | None = None, quarters: int = 0) -> Tensor:
        """Head output of every training sample, or of some `rows`: evaluation mode, no augmentation, float32 (N, D) on the CPU.

        Images are shown turned by `quarters` of a turn counterclockwise.
        """

        def prepared(samples: Tensor) -> Tensor:
            return self.make_batch.clean(torch.rot90(samples, quarters, (-2, -1)) if quarters else samples)

        return extract(Features(self.method, head), self.source, prepared, rows=rows, device=self.plan.device)["z"]

    def embed_source(self, source: Source, rows: np.ndarray | None = None) -> dict[str, Tensor]:
        """Features by name, `joint` among them, of another source of the same kind of samples, or of some of its `rows`."""
        found = extract(self.run.learner.model.features, source, self.make_batch.clean, rows=rows, device=self.plan.device)
        return {**found, "joint": joint_feature(found)}

    def batches(self, epoch: int, first: int) -> Any:
        """This epoch's batches from step `first` of it."""
        t = self.recipe.train
        more = companions_of(self.run.learner)
        return batches(self.data.batched, t.batch_size, self.recipe.seed, epoch, first, t.workers, companions=more, order=self.order)


class Features(torch.nn.Module):
    """A method's encoder with one of its heads (projector unless told): normalised images in, {"z": (B, D)} out."""

    def __init__(self, method: Method, head: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.head = method.encoder, head or method.projector

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Embeddings of a batch."""
        return {"z": self.head(self.encoder(x))}


def build(recipe: Recipe, source: Source, input: Spec | None = None) -> Job:
    """The recipe's model, method, optimizer and plan for a source.

    A fresh run, one without `input`, draws its initial weights, or takes the encoder's from `recipe.init`; a resumed one is given
    the input that its encoder was made for, and its weights come later.
    """
    given = read(Path(recipe.init), parts=("encoder",)) if recipe.init and input is None else None
    data, mislabelled = with_wrong_labels(data_of(source, _kind_of_method(recipe).fields, recipe.method.name), recipe)
    source = data.seen
    if input is None:
        input = input_of(source) if given is None else initial_input(given.checkpoint, source)
    check_kind(METHODS, recipe.method.name, input)
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
    if t.norm_statistics == "kept":
        keep_statistics(encoder)
    steps = len(source) // t.batch_size
    if steps == 0:
        raise ConfigError(f"train.batch_size is {t.batch_size} but {source.name} has {len(source)} samples; lower train.batch_size")
    context = RunContext(
        len(source), t.batch_size, steps, sum(_parts(recipe, steps)), recipe.seed, _labels(recipe, source), *_contents(data), source.clock
    )
    method = METHODS.build(recipe.method.name, Model(encoder, projector), context, settings=recipe.method.settings)
    graph = GRAPHS.build(recipe.graph.name, source, settings=recipe.graph.settings) if recipe.graph else None
    learner = learner_of(recipe, method, source, input, context, device, graph).to(device)
    if t.channels_last:
        learner = learner.to(memory_format=torch.channels_last)
    share_by_depth(encoder, t.encoder_lr, t.layer_decay)
    optimizer = build_optimizer(t.optimizer, learner, lr=t.lr, weight_decay=t.weight_decay, momentum=t.momentum)
    average = WeightAverage(learner.model.state_dict(), t.ema) if t.ema else None
    plan = _plan(recipe, steps, device, precision)
    make_batch = _batch_maker(recipe, data, input, learner)
    threads = f"device: {device}, {torch.get_num_threads()} threads"
    notes = [threads, f"precision: {precision} ({reason})", allocator or f"allocator: {allocator_obstacle()}"]
    notes += mislabelled
    notes += (data.whole if data.beside else data.seen).said()
    notes += init_notes(given, recipe, encoder, input, data.whole) if given is not None else []
    notes += stand_in_notes(data.whole) + filled_in(written, recipe) + unfinished_notes([recipe.init, *recipe.teachers])
    computed = [describe_compute(precision, device)]
    order, run = _order(recipe, method, source, steps), Run(learner, optimizer, average)
    notes += getattr(order, "notes", [])
    return Job(recipe, data, input, run, plan, make_batch, notes, graph, computed, order=order)


def _parts(recipe: Recipe, steps: int) -> list[int]:
    """Steps of the run as it was begun, and of each extension, where an epoch has so many."""
    return [steps * epochs for epochs in (recipe.train.epochs, *recipe.train.extend)]


def _plan(recipe: Recipe, steps: int, device: torch.device, precision: str) -> Plan:
    t, parts = recipe.train, _parts(recipe, steps)
    course = partial(
        extended_factor, parts=parts, restart=t.extend_schedule == "restart", schedule=t.schedule, warmup=t.warmup, final=t.final_lr
    )
    return Plan(
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


def _batch_maker(recipe: Recipe, data: Data, input: Spec, learner: Learner) -> BatchMaker:
    """What makes batches of loaded samples. Raises ConfigError for views that the method or the encoder cannot use."""
    views = build_views(recipe, data, input)
    check_view_count(learner.method.view_count, recipe.method.name, recipe.views)
    check_small_views(learner.model.encoder, views, input.side)
    return BatchMaker(views, input, learner, recipe.train.batch_size, data.field, data.beside)


def _order(recipe: Recipe, method: Method, source: Source, steps: int) -> Order | None:
    """Which samples make up each batch: the method's own order, or the recipe's; None shuffles. Raises ConfigError for both."""
    if method.order is not None and recipe.order is not None:
        raise ConfigError(f"order: method {recipe.method.name} chooses its own batches: leave order out")
    if recipe.order is None:
        return method.order
    labels = np.full(len(source), -1) if source.labels is None else np.asarray(source.labels)
    takes = ORDERS.entry(recipe.order.name).facts.get("takes", "labels")
    known: Any = {"labels": labels, "clock": source.clock, "attributes": Marks(labels, source.categories)}[takes]
    order: Order = ORDERS.build(recipe.order.name, known, recipe.train.batch_size, steps, recipe.seed, settings=recipe.order.settings)
    return order


def _kind_of_method(recipe: Recipe) -> type[Method]:
    return cast("type[Method]", METHODS.get(recipe.method.name))


def _contents(data: Data) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What class maps hold and which photographs they are of, for a method that learns from them."""
    if not data.beside or data.whole.contains is None:
        return None, None
    return data.whole.contains, data.whole.attributes.get(PHOTO, np.arange(len(data.whole)))


def _labels(recipe: Recipe, source: Source) -> Tensor | None:
    """Class labels for a method that learns from them; the others never see any."""
    given = learns_from_labels(recipe) and source.labels is not None
    return torch.from_numpy(np.asarray(source.labels, dtype=np.int64)) if given else None
