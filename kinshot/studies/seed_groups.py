"""Runs that differ by their seed alone, put together."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from kinshot.core.config import flatten
from kinshot.core.errors import ConfigError
from kinshot.recipes.recipe import FREE, Recipe
from kinshot.studies.footprint import counted, parameters_of
from kinshot.studies.study import Trained

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


def seed_groups(runs: Sequence[Trained], names: Sequence[str] = (), *, apart: bool = False) -> list[SeedGroup]:
    """Runs that differ by their seed alone put together, in the order in which they were given.

    Args:
        runs: the runs.
        names: what the user calls each run, empty where he does not; several groups under one name get the number of their encoder's
            parameters added where these differ, else their paths.
        apart: let runs of equal settings and seed stand alone, which something else must have told apart: threads, or a machine.

    Raises:
        ConfigError: two runs of equal settings and seed, where they do not stand apart.
    """
    called = list(names) or [""] * len(runs)
    recipes = [run.recipe for run in runs]
    ignored, shared = _IGNORED | _tied(recipes), _shared(recipes)
    found: dict[tuple[str, str], list[Trained]] = {}
    for name, run in zip(called, runs, strict=True):
        found.setdefault((name, _kind(run, ignored, shared)), []).append(run)
    if apart:
        found = {key: members for group in found.items() for key, members in _apart(*group)}
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


def _apart(key: tuple[str, str], members: list[Trained]) -> list[tuple[tuple[str, str], list[Trained]]]:
    """A group as it is where every run has a seed of its own, else every run for itself."""
    if len({run.recipe.seed for run in members}) == len(members):
        return [(key, members)]
    return [((key[0], f"{key[1]} {number}"), [run]) for number, run in enumerate(members)]


def _kind(run: Trained, ignored: set[str], shared: set[str]) -> str:
    """A text that is equal for runs that compute the same, on the same data and as far, but for their seed.

    Another run that a recipe names (its teacher) is one for all seeds, or its path holds the seed (`runs/teacher_@seed` of a sweep).
    Where the data follow the seed, their content does too; where validation chooses the checkpoint, its step is the run's own.
    """
    recipe = run.recipe
    settings = {key: value for key, value in flatten(recipe.to_dict()).items() if key not in ignored}
    for key in _OTHER_RUNS & settings.keys():
        paths = [settings[key]] if isinstance(settings[key], str) else settings[key]
        settings[key] = [path if path in shared else _without_seed(path, recipe.seed) for path in paths]
    content = None if any(key.startswith("data.") and key != "data.root" for key in ignored) else run.checkpoint.state.get("source")
    step = None if recipe.validation.split else run.checkpoint.state.get("step")
    elsewhere = str(run.path) if run.checkpoint.origin else ""
    return json.dumps([settings, content, step, elsewhere], sort_keys=True, default=str)


def _without_seed(path: str, seed: int) -> str:
    """The path with the last number that is the seed replaced: others before it (`runs/v1/teacher_1`) are no seed."""
    return re.sub(rf"(.*(?<!\d)){seed}(?!\d)", r"\1@seed", path)


def _shared(recipes: Sequence[Recipe]) -> set[str]:
    """Paths of other runs that recipes of several seeds name."""
    seeds: dict[str, set[int]] = {}
    for recipe in recipes:
        for path in (recipe.init, *recipe.teachers):
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
    """The path of a group, without the seed where there are several runs: what their paths begin with, or the first one."""
    members = sorted(members, key=lambda run: run.recipe.seed)
    paths = [str(run.path) for run in members]
    if len(paths) == 1:
        return paths[0]
    if all(f"seed={run.recipe.seed}" in path for run, path in zip(members, paths, strict=True)):
        return re.sub(r"[_/]?seed=\d+", "", paths[0])
    common = "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*paths, strict=False)))
    return common.rstrip("_-=./") if common.rpartition("/")[2] else paths[0]


def pools_of(groups: Sequence[SeedGroup]) -> dict[str, SeedGroup]:
    """Groups by the name of their row: `mean of 3`, with the group's own name where there are several; a single run by its name."""

    def title(group: SeedGroup) -> str:
        if len(group.runs) == 1:
            return group.runs[0].label
        return f"mean of {len(group.runs)}" + (f" ({group.label})" if len(groups) > 1 else "")

    return {title(group): group for group in groups}


def named_groups(runs: Sequence[Trained]) -> dict[str, list[str]]:
    """Names of the runs of every seed group, by the name of its row; what something else tells apart stands alone."""
    return {name: [run.label for run in group.runs] for name, group in pools_of(seed_groups(runs, apart=True)).items()}
