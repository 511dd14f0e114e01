"""Runs that differ by their seed alone, put together."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kinshot.core.config import flatten
from kinshot.core.errors import ConfigError
from kinshot.recipes.footprint import counted, parameters_of
from kinshot.recipes.recipe import FREE, Recipe
from kinshot.recipes.study import Trained

_IGNORED = {"name", "description", "seed", "data.root", *FREE}
_OTHER_RUNS = {"init", "distill.teachers"}


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ by their seed alone.

    Args:
        label: what the group is called, and no other.
        name: what the user calls it, and perhaps others, for example of another size; the label where he does not.
        runs: at least one.
    """

    label: str
    name: str
    runs: tuple[Trained, ...]


def seed_groups(runs: Sequence[Trained], names: Sequence[str] = ()) -> list[SeedGroup]:
    """Runs that differ by their seed alone put together, in the order in which they were given.

    Args:
        runs: the runs.
        names: what the user calls each run, empty where he does not; several groups under one name get the number of their encoder's
            parameters added where these differ, else their paths.

    Raises:
        ConfigError: two runs that do not differ at all.
    """
    called = list(names) or [""] * len(runs)
    recipes = [run.recipe for run in runs]
    ignored, shared = _IGNORED | _tied(recipes), _shared(recipes)
    found: dict[tuple[str, str], list[Trained]] = {}
    for name, run in zip(called, runs, strict=True):
        found.setdefault((name, _kind(run.recipe, ignored, shared)), []).append(run)
    groups: list[SeedGroup] = []
    for (name, _), members in found.items():
        _check_seeds(members)
        label = _label(name, members, [others for (other, _), others in found.items() if other == name])
        while label in [group.label for group in groups]:
            label += "'"
        groups.append(SeedGroup(label, name or label, tuple(members)))
    return groups


def _label(name: str, members: list[Trained], namesakes: list[list[Trained]]) -> str:
    if not name:
        return _place(members)
    if len(namesakes) == 1:
        return name
    sizes = [_size(others) for others in namesakes]
    return f"{name}, {_size(members) if len({*sizes}) == len(sizes) else _place(members)}"


def _size(members: list[Trained]) -> str:
    return counted(parameters_of(members[0].model.encoder))


def _kind(recipe: Recipe, ignored: set[str], shared: set[str]) -> str:
    """A text that is equal for runs that compute the same but for their seed.

    Another run that a recipe names (its teacher) is one for all seeds, or its path holds the seed (`runs/teacher_@seed` of a sweep).
    """
    settings = {key: value for key, value in flatten(recipe.to_dict()).items() if key not in ignored}
    for key in _OTHER_RUNS & settings.keys():
        paths = [settings[key]] if isinstance(settings[key], str) else settings[key]
        settings[key] = [path if path in shared else _without_seed(path, recipe.seed) for path in paths]
    return json.dumps(settings, sort_keys=True, default=str)


def _without_seed(path: str, seed: int) -> str:
    """The path with the last number that is the seed replaced: others before it (`runs/v1/teacher_1`) are no seed."""
    return re.sub(rf"(.*(?<!\d)){seed}(?!\d)", r"\1@seed", path)


def _shared(recipes: Sequence[Recipe]) -> set[str]:
    """Paths of other runs that recipes of several seeds name."""
    seeds: dict[str, set[int]] = {}
    for recipe in recipes:
        for path in (recipe.init, *recipe.distill.teachers):
            seeds.setdefault(path, set()).add(recipe.seed)
    return {path for path, found in seeds.items() if len(found) > 1}


def _tied(recipes: Sequence[Recipe]) -> set[str]:
    """Settings that follow the seed in every run that has them (`data.seed=@seed` of a sweep)."""
    found = [(recipe.seed, flatten(recipe.to_dict())) for recipe in recipes]
    if len({seed for seed, _ in found}) < 2:
        return set()
    keys = {key for _, settings in found for key, value in settings.items() if isinstance(value, int) and not isinstance(value, bool)}
    return {key for key in keys if all(settings[key] == seed for seed, settings in found if key in settings)}


def _check_seeds(members: list[Trained]) -> None:
    seeds: dict[int, Trained] = {}
    for run in members:
        if (other := seeds.get(run.recipe.seed)) is not None:
            raise ConfigError(f"{other.path} and {run.path} have the same settings and seed: leave one out, or name them NAME=RUN")
        seeds[run.recipe.seed] = run


def _place(members: list[Trained]) -> str:
    """The path of a group, without the seed where there are several runs."""
    path = str(members[0].path)
    return path if len(members) == 1 else re.sub(r"[_/]?seed=\d+", "", path)
