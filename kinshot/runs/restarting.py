"""Proximal restarts of a recipe, built, and what they go by: MAP@R of classes held back, or of training samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.datasets.base import Source
from kinshot.datasets.bundle import as_taken
from kinshot.kin.measuring import measured
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.neighbors.found import ByLabel
from kinshot.learn.features import extract as features_of
from kinshot.learn.knn import rows_by_class
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import BACKBONE, PROJECTOR, Model
from kinshot.learn.restarts import ProximalRestarts
from kinshot.recipes.recipe import Recipe
from kinshot.runs.inputs import channels_last
from kinshot.runs.validation import validation_source
from kinshot.samples.spec import Spec

WATCHED = 2000
"""Samples that are measured at most, drawn by class, the same ones every time."""
MAP_AT_R = wanted_metric("map_at_r")


@dataclass(frozen=True)
class Watched:
    """MAP@R of a run's embeddings on samples that stay the same, by the projector where there is one.

    Args:
        rows: which samples.
        labels: their classes.
        held: the source of classes that are held back; None for samples of the training set.
        input: what the encoder takes.
        device: where to compute.
    """

    rows: np.ndarray
    labels: np.ndarray
    held: Source | None
    input: Spec
    device: torch.device

    def __call__(self, model: Model, extract: Extract) -> float:
        """In [0, 1], of the weights that are trained."""
        if self.held is None:
            z = extract(None, self.rows)
        else:
            found = features_of(
                model.features, self.held, lambda x: channels_last(self.input.normalize(x)), rows=self.rows, device=self.device
            )
            z = found.get(PROJECTOR, found[BACKBONE])
        return measured(z, ByLabel(self.labels), [MAP_AT_R])[MAP_AT_R.text].value


def restarts_of(
    recipe: Recipe, method: Method, source: Source, input: Spec, context: RunContext, device: torch.device
) -> ProximalRestarts | None:
    """What a recipe says of restarts; None where it wants none.

    Raises:
        ConfigError: no classes to measure by, or data without the split that `validation` names.
    """
    r = recipe.restarts
    if not r.wanted:
        return None
    watch = _watched(recipe, source, input, device) if r.patience else None
    return ProximalRestarts(method.model, context, every=r.every, patience=r.patience, penalty=r.penalty, pool=r.pool, watch=watch)


def _watched(recipe: Recipe, source: Source, input: Spec, device: torch.device) -> Watched:
    held = as_taken(validation_source(recipe), input) if recipe.validation.split else None
    seen = source if held is None else held
    labels = np.full(len(seen), -1) if seen.labels is None else np.asarray(seen.labels)
    known = np.flatnonzero(labels >= 0)
    rows = known[rows_by_class(labels[known], WATCHED, recipe.seed)]
    if not len(rows):
        raise ConfigError(
            f"restarts.patience: MAP@R needs two classes of two samples, and {seen.name} has fewer: set restarts.every in its place"
        )
    return Watched(rows, labels[rows], held, input, device)
