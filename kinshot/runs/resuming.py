"""The recipe of a run that goes on: what it began with, as far as what is asked for now agrees with it.

A checkpoint keeps the overrides that its run was started with, so nobody has to type them again, and a recipe's file that was edited
since is noticed: with the overrides of then it is another recipe.
"""

from __future__ import annotations

from dataclasses import replace

from kinshot.core.checkpoint import Checkpoint, load_checkpoint
from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.recipes.loaded import recorded
from kinshot.recipes.recipe import Recipe, load_recipe, parse, with_overrides
from kinshot.runs.start import Options, resumed_from


def asked_recipe(name: str | None, given: list[str], options: Options, fresh: Recipe | None = None) -> Recipe:
    """The recipe that a command asks for; `train_recipe` compares it with the run that it goes on with.

    Args:
        name: a shipped recipe or a YAML file; None for the recipe of the run in `options.out`.
        given: overrides, as typed.
        options: the run folder, and whether something goes on there or is extended.
        fresh: what `load_recipe(name, given)` gave, where that is known already.

    Raises:
        ConfigError: a wrong recipe, or none at all.
        CheckpointError: a checkpoint to go on from that cannot be read.
    """
    path = resumed_from(options)
    if path is None:
        if options.extend:
            raise ConfigError(f"--extend: there is no finished run in {options.out}; name its folder with --out")
        if name is None:
            raise ConfigError(f"no RECIPE is given, and {options.out} holds no run to go on with: name a recipe (ssl list), or its --out")
        return fresh or load_recipe(name, given)
    checkpoint = load_checkpoint(path, parts=())
    then = _overrides(checkpoint)
    if name is None:
        typed = _together(then, given)
        recipe = replace(parse(with_overrides(recorded(checkpoint), given), path.name), overrides=tuple(typed))
    else:
        recipe = load_recipe(name, _together(then, given))
    return extended(recipe, options.extend) if options.extend else recipe


def extended(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with so many epochs more after its last one."""
    more = (*recipe.train.extend, epochs)
    typed = [text for text in recipe.overrides if not text.startswith("train.extend=")]
    return replace(recipe, train=replace(recipe.train, extend=more), overrides=(*typed, f"train.extend=[{', '.join(map(str, more))}]"))


def _overrides(checkpoint: Checkpoint) -> list[str]:
    found = checkpoint.state.get("overrides", [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise CheckpointError(f"{checkpoint.path}: state.json does not say its overrides as a list of texts; use another checkpoint")
    return found


def _together(then: list[str], now: list[str]) -> list[str]:
    """Overrides of the start with those of now behind them; a teacher that is named again takes the place of the earlier one."""
    again = any(text.startswith("teacher=") for text in now)
    kept = [text for text in then if not (again and text.startswith("teacher="))]
    return [*kept, *(text for text in now if text not in kept)]
