"""The terms of a recipe, built: objectives, kin, teachers, each tried before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.part_text import read_settings, split_text
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.encoders.build import keyed_initialisation
from kinshot.kin import KINS
from kinshot.kin.graph import RelationGraph
from kinshot.kin.kin import Kin, Known
from kinshot.kin.miners import MINERS
from kinshot.learn.change import Change
from kinshot.learn.learner import Learner
from kinshot.learn.method import Method
from kinshot.learn.self_paced import SelfPaced
from kinshot.learn.term import Term, try_objective
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.module import ObjectiveModule
from kinshot.recipes.recipe import FIXED, Recipe
from kinshot.recipes.terms import TermChoice, labels_of
from kinshot.runs.restarting import restarts_of
from kinshot.runs.teachers import Teachers
from kinshot.samples.spec import Spec


@dataclass
class Graphs:
    """The graphs over a source that terms name, each made once; "" is the one that the recipe's `graph` describes."""

    source: Source
    recipe: Recipe
    made: dict[str, RelationGraph] = field(default_factory=dict)

    def get(self, text: str) -> RelationGraph:
        """The graph that a text such as `knn:k=5` names; the recipe's own for ""."""
        if text not in self.made:
            choice = self.recipe.graph
            if text or choice is None:
                name, *assignments = split_text(text, ":", "kin graph: of", "knn:k=5")
                settings = read_settings(text, assignments, "kin graph: of", "knn:k=5")
            else:
                name, settings = choice.name, choice.settings
            self.made[text] = GRAPHS.build(name, self.source, settings=settings)
        return self.made[text]


def learner_of(
    recipe: Recipe,
    method: Method,
    source: Source,
    input: Spec,
    context: RunContext,
    device: torch.device,
    graph: RelationGraph | None = None,
) -> Learner:
    """A recipe's method with its terms; computes and caches what teachers say of clean samples.

    Raises:
        ConfigError: a term that does not fit the method, the data or its teacher.
        CheckpointError: a teacher that is missing or damaged.
    """
    own = recipe.distill
    if own.losses and not own.teachers:
        raise ConfigError(f"recipe {recipe.name} learns from a teacher, and none is given: add teacher=CHECKPOINT")
    graphs = Graphs(source, recipe, {} if graph is None else {"": graph})
    teachers = Teachers(source, input, device, own.teachers)
    known = Known(context, source.labels, source.attributes, graphs.get, teachers.word)
    terms = terms_of(recipe.all_terms, method, known, teachers, input, "student" if own.losses else f"method {recipe.method.name}")
    task_label = "base" if recipe.graph is not None and not own.losses and not recipe.terms else "task"
    return Learner(
        method,
        terms,
        context,
        task=recipe.own_weight,
        task_label=task_label,
        gauge_every=recipe.monitor.log_every,
        teachers=teachers.fingerprints(),
        balance=None if recipe.balance == FIXED else recipe.balance,  # type: ignore[arg-type]
        restarts=restarts_of(recipe, method, source, input, context, device),
    )


def terms_of(choices: Sequence[TermChoice], method: Method, known: Known, teachers: Teachers, input: Spec, whose: str) -> list[Term]:
    """Terms built and tried.

    Args:
        choices: what the recipe says.
        method: that they stand beside.
        known: what kin may know of the samples.
        teachers: that `known` loads.
        input: what the encoder takes.
        whose: what messages call the method.
    """
    method.model.check([choice.place.on for choice in choices], whose)
    kins: list[Kin] = [KINS.build(choice.kin.name, known, settings=choice.kin.settings) for choice in choices]
    teachers.ready()
    tried = _tried(method, input, [choice.place.on for choice in choices]) if choices else {}
    terms = []
    for choice, kin, label in zip(choices, kins, labels_of(choices), strict=True):
        place = replace(choice.place, label=label)
        ours = tried[place.on]
        said = teachers.sample(choice.kin.settings) if choice.taught else None
        if said is None:
            _check_rows(ours, choice)
        objective = _objective(choice, ours, None if said is None else said[1], kin, known.context)
        change = _change(choice, ours, kin, known.context)
        term = Term(
            place, objective, kin, takes=choice.takes, change=change, paced=_paced(choice, objective, known.context), share=choice.share
        )
        if said is not None:
            try_objective(term, ours, said[1], known.context.batch_size, f"{choice.kin.settings['output']} of {said[0]}")
        terms.append(term)
    return terms


def _objective(choice: TermChoice, ours: Tensor, theirs: Tensor | None, kin: Kin, context: RunContext) -> Callable[..., Tensor]:
    name, settings = choice.objective
    part = OBJECTIVES.get(name)
    with keyed_initialisation(context.seed, choice.initial):
        if inspect.isclass(part):
            shapes = (ours.shape[1], kin.classes) if theirs is None else (tuple(ours.shape[1:]), tuple(theirs.shape[1:]))
            built: ObjectiveModule = OBJECTIVES.build(name, *shapes, context, settings=settings)
            return built
    if theirs is None:
        return partial(part, **settings)
    return lambda student, teacher, indices, step: part(student, teacher, **settings)


def _paced(choice: TermChoice, objective: Callable[..., Tensor], context: RunContext) -> SelfPaced | None:
    return None if choice.place.paced >= 1 else SelfPaced(choice.place.paced, partial(objective, reduction="each"), context)


def _change(choice: TermChoice, ours: Tensor, kin: Kin, context: RunContext) -> Change | None:
    """What the term's augmenter and miner make of the pairs; None where it has neither."""
    if choice.miner is None and choice.augmenter is None:
        return None
    miner = None if choice.miner is None else partial(MINERS.get(choice.miner.name), **choice.miner.settings)
    augmenter: Callable[..., Any] | None = None
    if choice.augmenter is not None:
        name, settings = choice.augmenter
        part = AUGMENTERS.get(name)
        if inspect.isclass(part):
            augmenter = AUGMENTERS.build(name, ours.shape[1], kin.classes, context, settings=settings)
        else:
            augmenter = partial(part, **settings)
    return Change(augmenter, miner, seed=context.seed, key=choice.key)


def _check_rows(tried: Tensor, choice: TermChoice) -> None:
    if tried.dim() != 2:
        raise ConfigError(
            f"{choice.key}.on: {choice.objective.name} takes embeddings (B, D), and {choice.place.on} gives {tuple(tried.shape)}: "
            "choose backbone, projector or one of its outputs"
        )


@torch.no_grad()
def _tried(method: Method, input: Spec, names: list[str]) -> dict[str, Tensor]:
    """Outputs of two blank samples: what shapes are known by. Leaves no trace in the model."""
    before = {module: module.training for module in method.modules()}
    method.eval()
    found = method.model.outputs(input.blank(2), names)
    for module, training in before.items():
        module.training = training
    return found
