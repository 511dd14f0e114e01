"""A segmenter by its name: a head of dense episodes, or any few-shot head through the rows rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from kinshot.core.errors import ConfigError, suggest
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.dense import Dense

NETWORK = "network"
"""The parameter that a segmenter has for what its method trains."""
HeadMaker = Callable[[str, Mapping[str, Any]], Callable[..., Tensor]]
"""What makes a few-shot head of its name and settings, as `kinshot.fewshot.evaluate.build_head` does."""


@dataclass(frozen=True)
class BoundSegmenter:
    """A segmenter with its settings bound.

    Args:
        name: what it was asked for as.
        call: of dense episodes.
        scores: what its scores are, as `kinshot.fewshot.scores.KINDS` says of heads.
    """

    name: str
    call: Callable[[Dense], Tensor]
    scores: str

    def __call__(self, episodes: Dense) -> Tensor:
        """Scores (E, Q, 1 + W, h, w), background first."""
        return self.call(episodes)


def build_segmenter(
    name: str, settings: Mapping[str, Any] | None = None, *, heads: HeadMaker | None = None, **injected: Any
) -> BoundSegmenter:
    """A segmenter by its name, its settings bound, and what it is to be given beside them.

    Args:
        name: one of the segmenters, or, with `heads`, a few-shot head, whose episodes' rows are then cells.
        settings: by name; those of `rows` are its own under a few-shot head's name, all others the head's.
        heads: what makes a few-shot head of its name and settings: `kinshot.build_head`.
        injected: further parameters of this segmenter that are no settings, for example `network`.

    Raises:
        ConfigError: unknown segmenter, unknown setting or bad value, or something injected that the segmenter does not take.

    >>> kinshot.build_segmenter("ridge", {"penalty": 0.1, "cells": 50}, heads=kinshot.build_head).name
    'ridge'
    """
    given = dict(settings or {})
    if name not in SEGMENTERS.entries and heads is not None:
        ours = {key: given.pop(key) for key in list(given) if key in SEGMENTERS.entry("rows").parameters}
        made = heads(name, given)
        bound = build_segmenter("rows", ours, **{"head": made, **injected})
        return BoundSegmenter(name, bound.call, getattr(made, "scores", bound.scores))
    checked, problems = SEGMENTERS.check(name, given)
    if problems:
        raise ConfigError("; ".join(problems))
    function = SEGMENTERS.get(name)
    takes = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY} - checked.keys()
    if foreign := sorted(injected.keys() - takes):
        raise ConfigError(f"segmenter {name} does not take {foreign[0]!r}: {suggest(foreign[0], takes) if takes else 'leave it out'}")
    return BoundSegmenter(name, partial(function, **checked, **injected), scores_of(name, checked))


def takes_network(name: str) -> bool:
    """Whether a segmenter can be given a trained network."""
    return name in SEGMENTERS.entries and NETWORK in inspect.signature(SEGMENTERS.get(name)).parameters


def check_inner(name: str, head: str) -> None:
    """Raise ConfigError where a segmenter cannot stand over another one: a few-shot head, or one that needs a network of its own."""
    if head not in SEGMENTERS.entries or head == "rows" or takes_network(head):
        fit = [one for one in SEGMENTERS.names() if one != "rows" and not takes_network(one)]
        raise ConfigError(f"{name}: its head must be a segmenter that needs no trained network, got {head!r}: {suggest(head, fit)}")


def scores_of(name: str, settings: Mapping[str, Any]) -> str:
    """The kind of scores that a segmenter gives with these settings, complete with defaults; `similarities` where it says nothing."""
    said = SEGMENTERS.entry(name).facts.get("scores", "similarities")
    if isinstance(said, dict):
        ((setting, table),) = said.items()
        said = table.get(settings.get(setting), "similarities")
    return str(said)
