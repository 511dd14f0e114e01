"""A run's model and samples as its page looks at them: which samples, what they embed to, how their views are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, KinshotError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.bundle import as_taken
from kinshot.learn import METHODS
from kinshot.learn.features import extract, joint_feature
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.recipes.loaded import Loaded, read
from kinshot.recipes.recipe import Choice
from kinshot.recipes.specs import check_features
from kinshot.runs.begun import begun_with
from kinshot.runs.data import Data, data_of
from kinshot.runs.embedder import from_checkpoint, initial, input_spec, untrained
from kinshot.runs.inputs import build_views, views_by_field
from kinshot.samples.spec import Spec

PARTS = ("encoder", "projector", "rows", "network", "training")


@dataclass(frozen=True)
class Opened:
    """A run's checkpoint, its model in evaluation mode, and the feature that is looked at."""

    run: Loaded
    model: Model
    feature: str
    device: torch.device

    @property
    def input(self) -> Spec:
        """What the encoder takes."""
        return input_spec(self.run.checkpoint)

    @cached_property
    def started(self) -> tuple[Model, list[str]]:
        """The model as it was before training, which a run with `init` began with, and what is to be said of it."""
        try:
            begun = initial(self.run)
            notes = [f"before training: the encoder of {self.run.recipe.init}, which this run began with"] if begun else []
        except KinshotError as error:
            begun, notes = None, [f"before training: random weights, as the encoder that this run began with is not to be had: {error}"]
        return (begun or untrained(self.run)).to(self.device), notes

    @property
    def before(self) -> Model:
        """The model of `started`."""
        return self.started[0]


def opened(path: Path, feature: str, device: torch.device) -> Opened:
    """A run, verified. Raises CheckpointError, or ConfigError for what was not trained here or lacks the feature."""
    run = read(path, PARTS)
    if run.checkpoint.origin:
        raise ConfigError(f"{path} was not trained here, so that there is no run to report: use `fewshot report` to measure it")
    check_features([feature], run.recipe.features, "--feature")
    return Opened(run, from_checkpoint(run).to(device), feature, device)


@dataclass(frozen=True)
class Looked:
    """Samples under a run's model.

    Args:
        by: the run.
        data: the samples, as the encoder and the views take them.
        own: whether they are those that the run was trained on.
        rows: numbers of the samples that were embedded, ascending, int64 (n,).
        features: of these, float32 (n, D).
    """

    by: Opened
    data: Data
    own: bool
    rows: np.ndarray
    features: Tensor

    @property
    def source(self) -> Source:
        """The samples as the encoder takes them."""
        return self.data.seen

    @cached_property
    def labels(self) -> np.ndarray | None:
        """The class of each embedded sample (n,), or None."""
        return None if self.source.labels is None else np.asarray(self.source.labels)[self.rows]

    @cached_property
    def copies(self) -> np.ndarray:
        """A number for each embedded sample (n,), the same for samples of the same content."""
        return np.unique(self.source.digests(self.rows), return_inverse=True)[1].astype(np.int64)

    @cached_property
    def before(self) -> Tensor:
        """The same samples' features before training, (n, D)."""
        return embedded(self.by.before, self.source, self.rows, self.by.feature, self.by.device)

    @cached_property
    def _views(self) -> Callable[..., list[Any]]:
        return build_views(self.by.run.recipe, self.data, self.by.input)

    def views(self, samples: Tensor, indices: Tensor, *, seed: int, epoch: int) -> list[Tensor]:
        """Views of loaded samples, as the run makes those of its epoch `epoch`, from 0."""
        found = views_by_field(
            self._views, {self.data.field: samples}, indices, seed=seed, epoch=epoch, named=bool(self.data.beside)
        )  # fmt: skip
        return found[self.data.field]


def looked_at(by: Opened, choice: Choice | None, most: int) -> Looked:
    """Embed up to `most` samples, keyed by the run's seed; of the run's training data unless others are chosen.

    Raises what the source, `data_of` and embedding do.
    """
    data, own = samples_of(by, choice)
    rows = chosen_rows(len(data.seen), most, by.run.recipe.seed)
    return Looked(by, data, own, rows, embedded(by.model, data.seen, rows, by.feature, by.device))


def samples_of(by: Opened, choice: Choice | None) -> tuple[Data, bool]:
    """The samples to look at, and whether they are those that the run was trained on, to the bit."""
    recipe, checkpoint = by.run.recipe, by.run.checkpoint
    asked = recipe.data if choice is None else with_own_settings(choice, recipe.data, by.input)
    source = begun_with(SOURCES.build(asked.name, settings=asked.settings), checkpoint)
    method = cast("type[Method]", METHODS.get(recipe.method.name))
    beside = method.fields if all(name in source.fields for name in method.fields) else ()
    data = data_of(as_taken(source, by.input), beside, recipe.method.name)
    by.input.check_source(data.seen)
    return replace(data, field=data.field), source.known_as(str(checkpoint.state.get("source")))


def with_own_settings(choice: Choice, own: Choice, input: Spec) -> Choice:
    """A choice of data with what it leaves open: the run's own settings where it is the same kind of source, else the encoder's form."""
    if choice.name == own.name:
        return Choice(choice.name, {**own.settings, **choice.settings})
    known = SOURCES.entry(choice.name).parameters
    return Choice(choice.name, {**{key: value for key, value in input.rendering.items() if key in known}, **choice.settings})


def chosen_rows(count: int, most: int, seed: int) -> np.ndarray:
    """Up to `most` of `count` samples, drawn evenly by the run's seed, int64 ascending."""
    if count <= most:
        return np.arange(count)
    return np.sort(keyed_numpy(seed, "report/rows").permutation(count)[:most])


def embedded(model: Model, source: Source, rows: np.ndarray, feature: str, device: torch.device) -> Tensor:
    """A feature of some samples: float32 (n, D) on the CPU."""
    found = extract(model.embed, source, lambda samples: samples, rows=rows, device=device)
    return joint_feature(found) if feature == "joint" else found[feature]
