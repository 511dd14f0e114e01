"""The commands that made runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import Checkpoint, load_checkpoint
from kinshot.core.errors import KinshotError
from kinshot.recipes.recipe import PARTS, Recipe, differences, load_recipe, parse, recipe_names, train_command
from kinshot.recipes.sweep import sweep_command


def commands_behind(runs: Iterable[tuple[Path, Checkpoint]]) -> list[str]:
    """What to type to have these runs: each command once, those of the runs that others start or learn from first.

    Such other runs count as far as they lie where the recipe says; what is written down of a run is never a reason to fail.

    Args:
        runs: each run's path and checkpoint.
    """
    found: dict[str, None] = {}
    _collect(runs, found, set())
    return list(found)


def _collect(runs: Iterable[tuple[Path, Checkpoint]], found: dict[str, None], seen: set[Path]) -> None:
    for path, checkpoint in runs:
        if (place := path.resolve()) in seen:
            continue  # also a run that has since replaced the one that it started from
        seen.add(place)
        recipe = parse(checkpoint.config, "")
        _collect(_named_by(recipe, seen), found, seen)
        found.setdefault(sweep_command(path) or training_command(recipe, path))


def training_command(recipe: Recipe, path: Path) -> str:
    """The command that trains one run: its recipe, its seed, and what it set otherwise (but for the place of the recipe's own data)."""
    changed = _changes(load_recipe(recipe.name), recipe) if recipe.name in recipe_names() else {}
    given = [f"{key}={_typed(value)}" for key, value in changed.items() if key != "data.root" or "data" in changed]
    return shlex.join([*train_command(recipe).split(), recipe.name, *given, "--seed", str(recipe.seed), "--out", str(path)])


def _changes(old: Recipe, new: Recipe) -> dict[str, Any]:
    """What to set to make one recipe of another: settings of a part that was exchanged are those that are not its defaults."""
    sections = new.to_dict().keys() - PARTS.keys() - {"seed"}
    changed = {key: after for key, (_, after) in differences(old, new).items() if key.partition(".")[0] in sections}
    for section, registry in PARTS.items():
        was, now = getattr(old, section), getattr(new, section)
        if now is None:
            changed.update({section: None} if was else {})
            continue
        if was and was.name == now.name:
            before = was.settings
        else:
            changed[section] = now.name
            before = {key: parameter.default for key, parameter in registry.entry(now.name).parameters.items()}
        changed.update({f"{section}.{key}": value for key, value in now.settings.items() if _typed(value) != _typed(before.get(key))})
    return changed


def _typed(value: Any) -> str:
    """A setting's value as a user types it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_typed, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _named_by(recipe: Recipe, seen: set[Path]) -> list[tuple[Path, Checkpoint]]:
    """The runs that a recipe names and that were not seen yet: a teacher of many students is read once."""
    found = []
    for place in filter(None, (recipe.init, *recipe.distill.teachers)):
        try:
            if Path(place).is_dir() and Path(place).resolve() not in seen:
                found.append((Path(place), load_checkpoint(Path(place), parts=("encoder",))))
        except (KinshotError, OSError):
            continue
    return found
