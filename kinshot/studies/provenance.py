"""Where results come from: the commands that made runs, and what they were computed with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kinshot
from kinshot.core.checkpoint import Checkpoint
from kinshot.core.runtime import describe_compute
from kinshot.recipes.fit import with_views
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import PARTS, Choice, Recipe, differences, recipe_names, train_command
from kinshot.runs.reached import run_folder
from kinshot.runs.sweep_folder import sweep_command
from kinshot.studies.lineage import Lineage

CONFIG = "config.yaml"
_MEANT = {"teacher": "distill.teachers"}


def commands_behind(runs: Iterable[tuple[Path, Loaded]], lineage: Lineage) -> list[str]:
    """What to type to have these runs: each command once, those of the runs that others start or learn from first.

    Such other runs count as far as they lie where the recipe says; what is written down of a run is never a reason to fail.

    Args:
        runs: each run's path and what was read there.
        lineage: finds the runs and recipes behind them.
    """
    found: dict[str, None] = {}
    _collect(runs, lineage, found, set())
    return list(found)


def _collect(runs: Iterable[tuple[Path, Loaded]], lineage: Lineage, found: dict[str, None], seen: set[Path]) -> None:
    for path, run in runs:
        if (place := path.resolve()) in seen:
            continue  # also a run that has since replaced the one that it started from
        seen.add(place)
        if run.checkpoint.origin:
            found.setdefault(f"# {path}: {run.checkpoint.origin}")
            continue
        recipe = run.recipe
        others = ((Path(name), other) for name, other in lineage.named_by(recipe).items() if other is not None)
        _collect(others, lineage, found, seen)
        sweep = sweep_command(run_folder(path))
        found.setdefault(sweep if _explains(sweep, recipe, lineage) else training_command(recipe, path, lineage, run.checkpoint.path))


def training_command(recipe: Recipe, path: Path, lineage: Lineage, checkpoint: Path | None = None) -> str:
    """The command that trains one run again: a shipped recipe, its seed and what it set otherwise, or else the run's own `config.yaml`.

    A shipped recipe is named only where the command, read as a user's, gives this very recipe back. Any other recipe's file may have
    changed since, or be gone: the run keeps what it was trained by.

    Args:
        recipe: what trained the run.
        path: the run's folder, or a checkpoint.
        lineage: finds recipes.
        checkpoint: the folder of the checkpoint that was read, whose config.yaml is named where the run has none of this recipe.
    """
    run = run_folder(path)
    command = train_command(recipe).split()
    shipped = lineage.recipe(recipe.name) if recipe.name in recipe_names() else None
    if shipped is not None:
        given = [f"{key}={_typed(value)}" for key, value in _changes(shipped, recipe).items()]
        if _same(lineage.recipe(recipe.name, [*given, f"seed={recipe.seed}"]), recipe):
            return shlex.join([*command, recipe.name, *given, "--seed", str(recipe.seed), "--out", str(run)])
    kept = [place / CONFIG for place in (run, path) if _same(lineage.recipe(str(place / CONFIG)), recipe)]
    config = kept[0] if kept else (checkpoint or run) / CONFIG
    return shlex.join([*command, str(config), "--out", f"{run}-again"])


def _same(found: Recipe | None, recipe: Recipe) -> bool:
    """Whether what was found is this recipe, in everything that decides results."""
    return found is not None and not differences(found, recipe)


def _explains(command: str, recipe: Recipe, lineage: Lineage) -> bool:
    """Whether a sweep's command, as it was noted, still makes a recipe: its file is there, and what it does not set is as there."""
    try:
        words = shlex.split(command)[2:]
    except ValueError:
        return False  # a damaged note
    found = [word for word in words if "=" not in word and (word in recipe_names() or Path(word).is_file())]
    if not found:
        return False
    given = {"seed", *(_MEANT.get(key, key) for key, equals, _ in (word.partition("=") for word in words) if equals)}
    given |= {"structure"} if "graph" in given else set()
    swept = lineage.recipe(found[0])
    if swept is None:
        return True  # a recipe that needs settings to be one: they stand in the command
    method = Choice(swept.method.name, with_views(swept.method.settings, recipe.views))  # as many as the run has, where that was left open
    changed = differences(replace(swept, method=method), recipe)
    return all(any(key == one or key.startswith(f"{one.removesuffix('.name')}.") for one in given) for key in changed)


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


def versions(checkpoints: Iterable[Checkpoint], device: torch.device) -> dict[str, str]:
    """What a measurement and the training before it were computed with: libraries, precision, threads, processor."""
    trained = dict.fromkeys(
        c.origin or f"{_computed(c)}, torch {c.versions.get('torch_version') or 'unknown'}" for c in checkpoints
    )  # fmt: skip
    return {
        "kinshot": kinshot.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "evaluation": describe_compute("fp32", device),
        "training": "; ".join(trained),
    }


def _computed(checkpoint: Checkpoint) -> str:
    """What a checkpoint's state says of the machines that trained it; older ones know their threads alone."""
    found = checkpoint.state.get("computed")
    if isinstance(found, list) and found:
        return ", then ".join(map(str, found))
    threads = checkpoint.state.get("threads", "unknown")
    return f"precision and processor not recorded, threads {threads}"
