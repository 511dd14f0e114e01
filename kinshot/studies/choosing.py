"""Heads' settings and the feature chosen on validation episodes, so that no choice rests on the figures of the test classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.recipes.recipe import Choice, Recipe
from kinshot.recipes.splits import own_split, validation_data
from kinshot.studies.answers import Protocol, Say, measure
from kinshot.studies.fields import Fields
from kinshot.studies.seen import shared_classes
from kinshot.studies.study import Trained

RULE = "mean accuracy over tasks and checkpoints"
Head = tuple[str, str, dict[str, Any]]
"""(text, name, settings), as everywhere."""


@dataclass(frozen=True)
class Candidates:
    """What is chosen from.

    Args:
        heads: the alternatives of each head that was asked for; each comes with all the features of the protocol.
        validation: source of the validation episodes; None is the validation split of the checkpoints' own data.
    """

    heads: list[list[Head]]
    validation: Choice | None = None


@dataclass(frozen=True)
class Chosen:
    """The protocol with what was chosen alone, what it was chosen on, and an account for `--json` of what was tried."""

    protocol: Protocol
    fields: Fields
    account: dict[str, Any]


def choose(runs: Sequence[Trained], protocol: Protocol, candidates: Candidates, test: Fields, device: torch.device, say: Say) -> Chosen:
    """The best setting and feature of every head.

    One choice for all the checkpoints, by their mean over all tasks on validation episodes; of equals the one that was named first.

    Args:
        runs: the checkpoints.
        protocol: what is asked, with heads of which every one stands for its alternatives.
        candidates: those alternatives, and the validation data.
        test: what the checkpoints will be measured on.
        device: where features are computed.
        say: takes messages for the person who waits.

    Raises:
        ConfigError: no validation data, or validation classes that are test classes.
        DataError: too few validation classes or images for the episodes.
    """
    inputs = [run.input for run in runs]
    fields = Fields(candidates.validation or _own_validation(runs), inputs, replace(protocol.drawing, save=None))
    _check_disjoint(fields, test, runs)
    tried = replace(protocol, heads=[head for grid in candidates.heads for head in grid])
    found: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        met = fields.of(run.input)
        for one in measure(f"{run.label} on validation", run.model, run, met.source, met.tasks, tried, device, say):
            found.setdefault((one.head, one.feature), []).append(float(one.accuracy.mean()))
    means = {key: float(np.mean(values)) for key, values in found.items()}
    best = [_best([text for text, _, _ in grid], means) for grid in candidates.heads]
    pairs = list(dict.fromkeys(pair for pair in best if pair is not None))
    heads = {head[0]: head for head in tried.heads}
    features = [name for name in protocol.features if name in {feature for _, feature in pairs}] or protocol.features[:1]
    named = [heads[text] for text in dict.fromkeys(text for text, _ in pairs)]
    account = {
        "data": fields.describe(),
        **protocol.drawing.describe(fields.tasks),
        "by": RULE,
        "tried": [{"head": head, "feature": feature, "accuracy": value} for (head, feature), value in means.items()],
        "chosen": [{"head": head, "feature": feature, "accuracy": means[head, feature]} for head, feature in pairs],
    }
    return Chosen(replace(protocol, heads=named, features=features, only=frozenset(pairs)), fields, account)


def chosen_text(account: dict[str, Any]) -> str:
    """An account of `choose` in one line: on what, then for every chosen head its figure and those that it was chosen from."""
    data = account["data"]
    head = f"on {data['name']} ({data['classes']} classes, {account['episodes']} episodes of each task), by {account['by']}"
    said = ", ".join(f"{one['head']} on {one['feature']} {one['accuracy']:.2f}" for one in account["chosen"])
    kept = {(one["head"], one["feature"]) for one in account["chosen"]}
    others = [one for one in account["tried"] if (one["head"], one["feature"]) not in kept]
    rest = ", ".join(f"{one['head']} on {one['feature']} {one['accuracy']:.2f}" for one in others)
    return f"{head}: {said}" + (f"; also tried: {rest}" if rest else "")


def _best(texts: Sequence[str], means: dict[tuple[str, str], float]) -> tuple[str, str] | None:
    """The best (head, feature) of a head's alternatives; None where it had nothing to say about any feature."""
    own = [key for key in means if key[0] in texts]
    return max(own, key=lambda key: means[key], default=None)


def _own_validation(runs: Sequence[Trained]) -> Choice:
    found = [_validation_split(run.recipe) for run in runs]
    first, path = found[0], runs[0].path
    if first is None:
        data = runs[0].recipe.data.name
        raise ConfigError(f"{path}: its data {data} has no split val to choose on: name validation classes with --validation")
    for run, other in zip(runs, found, strict=True):
        if other is None or _unrendered(other) != _unrendered(first):
            raise ConfigError(f"{run.path} and {path} have different validation classes: say with --validation which to choose on")
    return first


def _validation_split(recipe: Recipe) -> Choice | None:
    return validation_data(recipe) if recipe.validation.split else own_split(recipe.data, "val")


def _unrendered(choice: Choice) -> tuple[str, dict[str, Any]]:
    return choice.name, {key: value for key, value in choice.settings.items() if key not in ("size", "channels", "root")}


def _check_disjoint(validation: Fields, test: Fields, runs: Sequence[Trained]) -> None:
    asked, chosen_on = test.of(runs[0].input).source, validation.of(runs[0].input).source
    shared = shared_classes(chosen_on, asked)
    if shared:
        some = ", ".join(shared[:3]) + (f" and {len(shared) - 3} more" if len(shared) > 3 else "")
        raise ConfigError(
            f"validation classes must not be test classes: {chosen_on.name} and {asked.name} share {some}: give another --validation"
        )
