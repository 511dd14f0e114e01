"""Several runs of one recipe: every combination of settings and seeds, one after another, continued where it was stopped."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinshot.core.atomic import write_json
from kinshot.core.errors import ConfigError
from kinshot.recipes.recipe import Recipe, load_recipe

Say = Callable[[str], None]
SAME_AS_SEED = "@seed"
NOTE = "sweep.json"


@dataclass(frozen=True)
class Planned:
    """One run of a sweep: its folder, its overrides, and the recipe that they make."""

    out: Path
    overrides: list[str]
    recipe: Recipe


def plan_sweep(recipe: str, settings: tuple[str, ...], seeds: list[int], out: Path) -> list[Planned]:
    """Every combination of `key=a,b,c` settings and seeds, each checked. Raises ConfigError before anything runs.

    Args:
        recipe: a shipped recipe's name or a YAML file.
        settings: `key=value`, or `key=a,b,c` for several values; `@seed` in a value stands for the run's seed.
        seeds: the runs' seeds.
        out: folder that holds one folder for each run.
    """
    axes = [_axis(text) for text in settings]
    keys = [key for key, _ in axes]
    if len(set(keys)) != len(keys):
        raise ConfigError(f"a setting is given twice among {', '.join(keys)}: write key=a,b,c once")
    planned = []
    for values in itertools.product(*(found for _, found in axes)):
        for seed in seeds:
            chosen = [f"{key}={value.replace(SAME_AS_SEED, str(seed))}" for key, value in zip(keys, values, strict=True)]
            varied = [f"{k.split('.')[-1]}={v}" for (k, found), v in zip(axes, values, strict=True) if len(found) > 1]
            name = "_".join([*varied, f"seed={seed}"]).replace("/", "-")
            overrides = [*chosen, f"seed={seed}"]
            planned.append(Planned(out / name, overrides, load_recipe(recipe, overrides)))
    return planned


def run_sweep(planned: list[Planned], say: Say) -> list[dict[str, Any]]:
    """Run what is not finished yet; returns each run's result. A signal ends it after a checkpoint, and the next call continues."""
    from kinshot.recipes.start import Options
    from kinshot.recipes.train import train_recipe

    results = []
    for number, job in enumerate(planned, 1):
        say(f"[{number}/{len(planned)}] {job.out}")
        results.append(train_recipe(job.recipe, Options(job.out, "auto", quiet=True), lambda text: None))
    return results


def note_command(out: Path, command: str) -> None:
    """Keep in a sweep's folder how it was made, for `ssl probe --results`."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / NOTE, {"command": command})


def sweep_command(run: Path) -> str:
    """The command of the sweep that a run belongs to, empty for none."""
    try:
        return str(json.loads((run.parent / NOTE).read_text(encoding="utf-8"))["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # no sweep, or a damaged note, which is no reason to fail


def runs_of(paths: list[Path]) -> list[Path]:
    """The paths, with each sweep's folder replaced by its runs. Raises ConfigError for a sweep without any."""
    found: list[Path] = []
    for path in paths:
        runs = sorted(child for child in path.iterdir() if child.is_dir()) if (path / NOTE).is_file() else [path]
        if not runs:
            raise ConfigError(f"{path} is a sweep without a run: run its command again")
        found += [run for run in runs if run.name != NOTE]
    return found


def _axis(text: str) -> tuple[str, list[str]]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"cannot read {text!r}: write key=value, or key=a,b,c for several values")
    return key.strip(), _split(value)


def _split(text: str) -> list[str]:
    """Parts between commas that stand outside brackets: `[1, 2],[3, 4]` has two."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current]
