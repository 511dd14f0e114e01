"""Settings that follow from the data: what a recipe leaves open is filled in as soon as the samples are known.

A run's config.yaml holds what was filled in, so that it says what was trained, and a change of these rules leaves old runs as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kinshot.core.part_text import part_text
from kinshot.encoders import ENCODERS
from kinshot.encoders.auto import encoder_for
from kinshot.encoders.queue import queue_for
from kinshot.encoders.stems import stem_for, stem_of
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Choice, Recipe
from kinshot.samples.spec import Spec, spec_from_dict
from kinshot.ssl.interclr.settings import scaled_sizes

POOLED = "pooled"
"""The encoder that pools the maps of another one, which may be that of `init`."""
_BATCHES = ((64, 128), (128, 64))
"""(below this side in pixels, batch): what fits the memory of a laptop with the encoders of `auto`."""
_LARGE_BATCH, _SMALLEST_BATCH = 32, 8


def fit(recipe: Recipe, input: Spec, samples: int, init: Loaded | None = None) -> Recipe:
    """The recipe with every setting that was left to the data: encoder and stem `auto`, and 0 for batch_size, clusters and queue.

    And 0 for the method's views, which follow from the recipe's own.

    Args:
        recipe: as it was written.
        input: what the encoder is made for.
        samples: N, of the training source.
        init: the checkpoint whose encoder the training starts from, and which then says what is left open of the encoder.
    """
    batch = recipe.train.batch_size or batch_for(input, samples)
    method = with_views(recipe.method.settings, recipe.views)
    if method.get("clusters") == 0:
        method["clusters"] = scaled_sizes(samples).clusters
    if method.get("queue") == 0:
        method["queue"] = queue_for(samples, batch)
    encoder = _encoder(recipe.encoder, input, made_by(init).encoder if init is not None else None)
    return replace(recipe, encoder=encoder, method=Choice(recipe.method.name, method), train=replace(recipe.train, batch_size=batch))


def with_views(settings: Mapping[str, Any], views: Choice) -> dict[str, Any]:
    """A method's settings, where it takes any number of views and leaves it open with as many as the views give."""
    follows = {"views": views.settings["views"]} if settings.get("views") == 0 and "views" in views.settings else {}
    return {**settings, **follows}


def batch_for(input: Spec, samples: int) -> int:
    """What `train.batch_size=0` is: a power of two that the memory holds and that leaves four steps an epoch, where that is 8 or more.

    Of samples that a network sees all at once, it is all of them.
    """
    if input.whole:
        return samples
    most = next((batch for below, batch in _BATCHES if input.side < below), _LARGE_BATCH)
    quarter = 2 ** max(0, (samples // 4).bit_length() - 1)
    return min(most, max(_SMALLEST_BATCH, quarter))


def fit_like(recipe: Recipe, run: Loaded) -> Recipe:
    """The recipe fitted to the data, and where it is open the encoder, of a checkpoint of its own."""
    state = run.checkpoint.state
    return fit(recipe, spec_from_dict(state["input"]), int(state.get("samples", 1)), run)


def made_by(run: Loaded) -> Recipe:
    """The recipe of a checkpoint, loaded with its part `encoder`, with what the data and its weights say of settings left open."""
    checkpoint, recipe = run.checkpoint, run.recipe
    settings = recipe.encoder.settings
    if settings.get("stem") == "auto" and "conv1.weight" in checkpoint.encoder:  # the rule may have been another one then
        settings = {**settings, "stem": stem_of(checkpoint.encoder)}
    recipe = replace(recipe, encoder=Choice(recipe.encoder.name, settings))
    return fit(recipe, spec_from_dict(checkpoint.state["input"]), int(checkpoint.state.get("samples", 1)))


def _encoder(given: Choice, input: Spec, init: Choice | None) -> Choice:
    if given.name == "auto":
        if init is not None:
            return init
        name = encoder_for(input)
        given = Choice(name, ENCODERS.check(name, {})[0])
    if given.name == POOLED and given.settings["of"] == "auto" and init is not None:
        pooled = init.name == POOLED
        of = init.settings["of"] if pooled else part_text(init.name, init.settings, ENCODERS.entry(init.name).parameters)
        return Choice(POOLED, {**given.settings, "of": of})
    if given.settings.get("stem") != "auto":
        return given
    stem = init.settings["stem"] if init is not None and init.name == given.name else stem_for(input.side)
    return Choice(given.name, {**given.settings, "stem": stem})


def filled_in(written: Recipe, fitted: Recipe) -> list[str]:
    """What `fit` filled in, as a line for the person, where there is something."""
    found: dict[str, Any] = {}
    if written.encoder.name != fitted.encoder.name:
        found["encoder"] = fitted.encoder.name
    if (stem := fitted.encoder.settings.get("stem")) != written.encoder.settings.get("stem"):
        found["encoder.stem"] = stem
    if written.train.batch_size != fitted.train.batch_size:
        found["train.batch_size"] = fitted.train.batch_size
    said = with_views(written.method.settings, written.views)  # by the recipe itself
    found |= {f"method.{key}": value for key, value in fitted.method.settings.items() if value != said[key]}
    return ["from the data: " + ", ".join(f"{key}={value}" for key, value in found.items())] if found else []
