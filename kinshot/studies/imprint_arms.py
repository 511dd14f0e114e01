"""The arms of the imprinting study: how the rows of novel classes begin, and what is trained from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kinshot.core.rng import keyed_seed
from kinshot.datasets.base import Source
from kinshot.datasets.views import VIEWS
from kinshot.fewshot.generalized import Generalized
from kinshot.fewshot.imprinting import append_rows, fine_tune_rows, imprint_rows
from kinshot.fewshot.joint import NovelDraw, answers, best_of
from kinshot.fewshot.network_fine_tuning import fine_tune_network
from kinshot.fewshot.support_draws import keyed_normals
from kinshot.fewshot.transforms import unit
from kinshot.learn.features import extract
from kinshot.learn.model import Model
from kinshot.recipes.recipe import Recipe
from kinshot.studies.base_classifier import BaseClassifier
from kinshot.studies.joint_data import Images

STARTS = {"random": "random rows", "imprinted": "imprinted", "views": "imprinted from views"}
TUNINGS = {"none": "", "rows": ", rows fine-tuned", "network": ", network fine-tuned"}
Views = Callable[..., list[Tensor]]


@dataclass(frozen=True)
class Tuning:
    """How something is fine-tuned: steps and learning rate."""

    steps: int
    lr: float


@dataclass(frozen=True)
class Fixed:
    """What is the same in every arm.

    Args:
        views: augmented views of each exemplar that an embedding is averaged over.
        batch: images in a step of fine-tuning.
        batch_norm: see `fine_tune_network`.
        seed: key of every draw.
    """

    views: int = 10
    batch: int = 64
    batch_norm: Literal["batch", "frozen"] = "batch"
    seed: int = 0


@dataclass(frozen=True)
class Bench:
    """A trained network with its base images, on one device.

    Args:
        model: says how samples are prepared.
        network: prepared samples to the feature that the classifier stands on, in evaluation mode.
        views: what the run was trained on, one view at a time.
        classifier: base rows and scale.
        base: base images to fine-tune on.
        base_features: the feature of them, (N, D).
        fixed: what is the same in every arm.
        device: where to compute.
    """

    model: Model
    network: nn.Module
    views: Views
    classifier: BaseClassifier
    base: Images
    base_features: Tensor
    fixed: Fixed
    device: torch.device


@dataclass(frozen=True)
class Side:
    """New classes with the base images that they are measured beside: one for the test, one for choosing settings.

    Args:
        novel: images of new classes.
        features: the feature of them.
        draws: draws of exemplars.
        base: images of base classes to ask.
        base_features: the feature of them.
    """

    novel: Source
    features: Tensor
    draws: list[NovelDraw]
    base: Images
    base_features: Tensor


def recipe_views(recipe: Recipe, spec: Any) -> Views:
    """The views that a recipe trains on, full-size in every epoch."""
    settings = {**recipe.views.settings, **({"small_epochs": 0} if "small_epochs" in recipe.views.settings else {})}
    return VIEWS.build(recipe.views.name, spec, settings=settings)


def measure(bench: Bench, side: Side, number: int, shots: int, start: str, tuned: str, tuning: Tuning) -> Generalized:
    """Joint accuracies of one arm on draw `number` of a side, with `shots` exemplars of each new class."""
    draw = side.draws[number]
    weight = append_rows(unit(bench.classifier.weight), first_rows(bench, side, number, shots, start))
    if tuned == "none":
        return _accuracy(side, draw, weight, side.base_features, side.features[draw.query])
    seed = keyed_seed(bench.fixed.seed, "imprinting study", number)
    images, ways = draw.support(shots)
    labels = torch.cat([torch.from_numpy(bench.base.labels), len(bench.classifier.weight) + ways])
    scale, batch = bench.classifier.scale, bench.fixed.batch
    if tuned == "rows":
        z = torch.cat([bench.base_features, side.features[images]])
        found = fine_tune_rows(weight, scale, z, labels, steps=tuning.steps, lr=tuning.lr, batch=batch, seed=seed)
        return _accuracy(side, draw, found.rows, side.base_features, side.features[draw.query])
    return train_network(bench, side, number, shots, bench.network, weight, scale, tuning, augment=start == "views")


def first_rows(bench: Bench, side: Side, number: int, shots: int, start: str) -> Tensor:
    """Rows of the new classes before any training: random, of their exemplars, or of the exemplars' augmented views; (W, D), unit."""
    draw = side.draws[number]
    images, ways = draw.support(shots)
    shape = (len(draw.exemplars), side.features.shape[1])
    if start == "random":
        return unit(keyed_normals(shape, bench.fixed.seed, "random rows", number).float())
    embedded = side.features[images] if start == "imprinted" else view_features(bench, side.novel, images)
    return imprint_rows(embedded, ways, shape[0])


@torch.no_grad()
def view_features(bench: Bench, source: Source, rows: np.ndarray) -> Tensor:
    """The feature of augmented views of images: (n, A, D) on the CPU."""
    spec, parts = bench.model.input, []
    for chunk in np.array_split(rows, max(1, -(-len(rows) // 256))):
        samples = spec.fit(source.load(chunk)).to(bench.device)
        made = [bench.views(samples, chunk, seed=bench.fixed.seed, epoch=view)[0] for view in range(bench.fixed.views)]
        parts.append(torch.stack([bench.network(view).float().cpu() for view in made], dim=1))
    return torch.cat(parts)


def train_network(
    bench: Bench, side: Side, number: int, shots: int, network: nn.Module, weight: Tensor, scale: float, tuning: Tuning, *, augment: bool
) -> Generalized:
    """Joint accuracies after training a copy of a network, with all rows and the scale, on base images and exemplars."""
    draw = side.draws[number]
    images, ways = draw.support(shots)
    labels = torch.cat([torch.from_numpy(bench.base.labels), len(bench.classifier.weight) + ways])
    found = fine_tune_network(
        network,
        weight.to(bench.device),
        scale,
        _inputs(bench, side.novel, images, augment),
        labels,
        steps=tuning.steps,
        lr=tuning.lr,
        batch=bench.fixed.batch,
        batch_norm=bench.fixed.batch_norm,
        seed=keyed_seed(bench.fixed.seed, "imprinting study", number),
    )
    model = Model(found.encoder, nn.Identity(), input=bench.model.input).eval()
    base, novel = (
        extract(model.embed, source, lambda samples: samples, rows=rows, device=bench.device)["backbone"]
        for source, rows in ((side.base.source, side.base.rows), (side.novel, draw.query))
    )
    return _accuracy(side, draw, unit(found.classifier.weight.detach().cpu()), base, novel)


def _inputs(bench: Bench, novel: Source, exemplars: np.ndarray, augment: bool) -> Callable[[Tensor, int], Tensor]:
    """Positions among the base images, then the exemplars, as the encoder takes them: augmented anew in every step, or as they are."""

    def of_source(source: Source, rows: np.ndarray, places: np.ndarray, step: int) -> Tensor:
        samples = source.load(rows).to(bench.device)
        if not augment:
            return bench.model.prepare(samples)
        # the place in the batch is part of the key: an image that is drawn twice gives two views
        return bench.views(bench.model.input.fit(samples), places, seed=bench.fixed.seed, epoch=step)[0]

    def inputs(positions: Tensor, step: int) -> Tensor:
        drawn = positions.numpy()
        of_base = drawn < len(bench.base.rows)
        order = np.argsort(~of_base, kind="stable")
        parts = []
        for source, rows, chosen in (
            (bench.base.source, bench.base.rows[drawn[of_base]], np.flatnonzero(of_base)),
            (novel, exemplars[drawn[~of_base] - len(bench.base.rows)], np.flatnonzero(~of_base)),
        ):
            if len(chosen):
                parts.append(of_source(source, rows, chosen, step))
        made = torch.cat(parts)
        return made[torch.from_numpy(np.argsort(order)).to(made.device)]

    return inputs


def _accuracy(side: Side, draw: NovelDraw, weight: Tensor, base: Tensor, novel: Tensor) -> Generalized:
    """Joint accuracies by the cosine to unit rows: those of base classes, then those of the draw's."""
    classes = len(weight) - len(draw.exemplars)
    old, new = weight[:classes], weight[classes:]
    found = [[best_of(z, rows, _cosine) for rows in (old, new)] for z in (base, novel)]
    return answers((found[0][0], found[0][1], side.base.labels), (found[1][0], found[1][1], draw.query_ways)).accuracy()


def _cosine(features: Tensor, rows: Tensor) -> Tensor:
    return unit(features) @ rows.mT
