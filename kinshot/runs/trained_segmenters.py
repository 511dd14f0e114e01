"""Segmenters for a model: with what its training gives to them, and the stages of its encoder that they look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from kinshot.core.errors import ConfigError, suggest
from kinshot.fewshot.evaluate import build_head
from kinshot.learn import METHODS
from kinshot.learn.model import Model
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.segmenters import SegmenterChoice, parse_segmenter
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.planned import stages_of
from kinshot.segmentation.segmenter import NETWORK, BoundSegmenter, build_segmenter, check_inner, takes_network

STAGE = "stage"


@dataclass(frozen=True)
class ModelSegmenter:
    """A segmenter for one model.

    Args:
        segmenter: with settings, and network where there is one.
        stages: of the encoder; the first is the one that is compared.
    """

    segmenter: BoundSegmenter
    stages: tuple[str, ...]


def model_segmenter(choice: SegmenterChoice, model: Model, run: Loaded, stage: str = "", *, trained: bool = True) -> ModelSegmenter | None:
    """A segmenter for a model, or None where the segmenter is a network and there is none trained for it.

    Args:
        choice: what was asked for.
        model: the encoder whose maps it gets.
        run: what the model is of, loaded with its part `network`.
        stage: whose maps are compared; empty for the one that the run's method compares, else the last. A network says its own.
        trained: whether the model is the run's own; a reference has none of what it learned.

    Raises:
        ConfigError: an encoder without maps, or no such stage.
    """
    network = network_for(choice.name, run) if trained else None
    if network is None and takes_network(choice.name):
        return None
    extra = {} if network is None else {NETWORK: network}
    built = build_segmenter(choice.name, choice.settings, heads=build_head, **extra)
    return ModelSegmenter(built, stages_of(network) if network is not None else (compared_stage(model, run, stage),))


def check_networks(choices: Sequence[SegmenterChoice], runs: Sequence[Loaded]) -> None:
    """Raise ConfigError for a segmenter that is a network which none of the runs learned, or that stands over one that cannot be there."""
    for choice in choices:
        if choice.name in SEGMENTERS.entries and "head" in choice.settings:
            check_inner(choice.name, choice.settings["head"])
        if takes_network(choice.name) and all(network_for(choice.name, run) is None for run in runs):
            those = (name for name in METHODS.names() if getattr(METHODS.get(name), "trains_head", "") == choice.name)
            methods = " or ".join(f"the method {name}" for name in those) or "a method of its own"
            raise ConfigError(
                f"segmenter {choice.name} needs the network that `segmentation train` with {methods} learns for it, and "
                f"{', '.join(str(run.checkpoint.path) for run in runs[:3])} has none: leave it out, or give a run of that method"
            )


def own_segmenter(run: Loaded) -> SegmenterChoice:
    """The segmenter that a run's method trains, or `cosine`."""
    trained = "" if run.checkpoint.origin else str(getattr(METHODS.get(run.recipe.method.name), "trains_head", ""))
    return parse_segmenter(trained if trained in SEGMENTERS.entries else "cosine")


def network_for(name: str, run: Loaded) -> Any:
    """What a run's method trained for this segmenter; None for nothing."""
    if run.checkpoint.origin:
        return None
    method: Any = METHODS.get(run.recipe.method.name)
    return (run.checkpoint.optional(NETWORK) or None) if method.trains_head == name else None


def compared_stage(model: Model, run: Loaded, stage: str = "") -> str:
    """The stage whose maps are compared: the one asked for, that of the run's method, or the last. Raises ConfigError."""
    stages = cast("tuple[str, ...]", getattr(model.encoder, "stages", ()))
    if not stages:
        raise ConfigError(f"{run.checkpoint.path}: its encoder gives no maps to segment by: choose an encoder of images")
    wanted = stage or ("" if run.checkpoint.origin else str(run.recipe.method.settings.get(STAGE) or "")) or stages[-1]
    if wanted not in stages:
        raise ConfigError(f"{run.checkpoint.path}: its encoder has no stage {wanted!r}: {suggest(wanted, stages)}")
    return wanted
