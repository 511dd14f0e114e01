"""Runs of one recipe over folds and seeds: which are measured on which fold, and which make one row together."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kinshot.core.config import flatten
from kinshot.recipes.recipe import FREE, Choice
from kinshot.studies.seed_groups import SeedGroup, seed_groups
from kinshot.studies.study import Trained

FOLD = "fold"
Fold = int | None
_ASIDE = {"name", "description", "seed", "data.root", "data.fold", *FREE}


@dataclass(frozen=True)
class Family:
    """Runs that differ by fold and seed alone.

    Args:
        label: what their row is called.
        runs: by fold, and by seed.
    """

    label: str
    runs: dict[Fold, dict[int, Trained]]

    @property
    def members(self) -> list[Trained]:
        """Every run once."""
        return list({id(run): run for of in self.runs.values() for run in of.values()}.values())


def own_fold(run: Trained, data: Choice) -> Fold:
    """The fold whose classes a run left out of its training on these data; None where nothing says one."""
    own = run.recipe.data
    found = own.settings.get(FOLD) if own.name == data.name and not run.checkpoint.origin else None
    return found if isinstance(found, int) else None


def runs_on(fold: Fold, runs: Sequence[Trained], data: Choice, folds: Sequence[Fold]) -> list[Trained]:
    """The runs that are measured on a fold: of several folds, a run that has one of its own is measured on that alone."""
    return [run for run in runs if len(folds) == 1 or own_fold(run, data) in (None, fold)]


def families(runs: Sequence[Trained], data: Choice, folds: Sequence[Fold]) -> list[Family]:
    """Runs put together over folds and seeds, in the order in which they were given."""
    found: dict[str, dict[Fold, SeedGroup]] = {}
    for fold in folds:
        met: dict[str, int] = {}
        for group in seed_groups([_without_fold(run) for run in runs_on(fold, runs, data, folds)], apart=True):
            key = _key(group.runs[0])
            met[key] = met.get(key, 0) + 1
            found.setdefault(f"{key} {met[key]}", {})[fold] = group
    originals = {run.path: run for run in runs}
    made = [
        Family(
            _label(groups, len(found)),
            {fold: {run.recipe.seed: originals[run.path] for run in _by_seed(group)} for fold, group in groups.items()},
        )
        for groups in found.values()
    ]
    return [replace(family, label=_told_apart(family.label, made, number)) for number, family in enumerate(made)]


def _by_seed(group: SeedGroup) -> list[Trained]:
    return sorted(group.runs, key=lambda run: run.recipe.seed)


def _without_fold(run: Trained) -> Trained:
    own = run.recipe.data
    settings = {key: value for key, value in own.settings.items() if key != FOLD}
    return replace(run, recipe=replace(run.recipe, data=Choice(own.name, settings)))


def _key(run: Trained) -> str:
    """A text that is equal for runs of one recipe on other folds; runs that theirs start from may have the fold in their names."""
    settings = {key: _unfolded(value) for key, value in flatten(run.recipe.to_dict()).items() if key not in _ASIDE}
    return json.dumps([settings, str(run.path) if run.checkpoint.origin else ""], sort_keys=True, default=str)


def _unfolded(value: object) -> object:
    return re.sub(r"(fold[=_-]?)\d+", r"\1N", value) if isinstance(value, str) else value


def _label(groups: dict[Fold, SeedGroup], families: int) -> str:
    first = next(iter(groups.values()))
    seeds = max(len(group.runs) for group in groups.values())
    place = first.runs[0].label if seeds == 1 else first.label
    own = len({run.path for group in groups.values() for run in group.runs}) > seeds
    place = (re.sub(r"[_/-]?(data\.)?fold[=_-]?\d+", "", place) or place) if own else place
    return place if seeds == 1 else f"mean of {seeds}" + (f" ({place})" if families > 1 else "")


def _told_apart(label: str, made: Sequence[Family], number: int) -> str:
    """The label, with as many strokes as families of this label stand before."""
    return label + "'" * sum(other.label == label for other in made[:number])
