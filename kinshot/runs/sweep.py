"""Several runs of one recipe: every combination of settings and seeds, one after another, continued where it was stopped."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinshot.core.atomic import write_json
from kinshot.core.errors import ConfigError, KinshotError
from kinshot.recipes.recipe import Recipe, differences, load_recipe
from kinshot.runs.sweep_folder import NOTE

Say = Callable[[str], None]
SAME_AS_SEED = "@seed"
_LONGEST = 200
"""Bytes of a folder's name; file systems take 255."""


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
    planned: list[tuple[str, list[str], Recipe]] = []
    for values in itertools.product(*(found for _, found in axes)):
        for seed in seeds:
            chosen = [f"{key}={value.replace(SAME_AS_SEED, str(seed))}" for key, value in zip(keys, values, strict=True)]
            varied = [f"{k.split('.')[-1]}={v}" for (k, found), v in zip(axes, values, strict=True) if len(found) > 1]
            overrides = [*chosen, f"seed={seed}"]
            checked = load_recipe(recipe, overrides)
            planned.append(("_".join([*varied, f"seed={seed}"]), overrides, checked))
    if len({tuple(overrides) for _, overrides, _ in planned}) < len(planned):
        raise ConfigError("a run is asked for twice: give each value and each seed once")
    places = _folders(out, [(name, checked) for name, _, checked in planned])
    return [Planned(place, overrides, checked) for place, (_, overrides, checked) in zip(places, planned, strict=True)]


def run_sweep(planned: list[Planned], say: Say) -> list[dict[str, Any]]:
    """Run what is not finished yet; returns each run's result. A signal ends it after a checkpoint, and the next call continues."""
    from kinshot.runs.start import Options
    from kinshot.runs.train import train_recipe

    results = []
    for number, job in enumerate(planned, 1):
        say(f"[{number}/{len(planned)}] {job.out}")
        results.append(train_recipe(job.recipe, Options(job.out, "auto", quiet=True), lambda text: None))
    return results


def note_command(out: Path, command: str) -> None:
    """Keep in a sweep's folder how it was made, for `ssl probe --results`. Raises ConfigError where the folder cannot be made."""
    from kinshot.runs.start import open_folder

    open_folder(out)
    write_json(out / NOTE, {"command": command})


def _folders(out: Path, runs: list[tuple[str, Recipe]]) -> list[Path]:
    """A folder of its own for each run and its name: where a file name cannot hold that, some of it is replaced and a digest follows.

    Earlier versions left the digest out, so that `a/b` and `a-b` met: a run that is there already is continued where it is.
    """
    held = [next((place for place in _candidates(out, name) if _is_run_of(place, recipe)), None) for name, recipe in runs]
    found = []
    for place, (name, _) in zip(held, runs, strict=True):
        plain, digested = _candidates(out, name)
        found.append(place or (plain if plain.name == name and plain not in held else digested))
    return found


def _candidates(out: Path, name: str) -> tuple[Path, Path]:
    """The folder of a run by its name, as far as that is one, and the one with a digest of the name."""
    plain = name.replace("/", "-").encode()[:_LONGEST].decode("utf-8", "ignore")
    return out / plain, out / f"{plain}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _is_run_of(folder: Path, recipe: Recipe) -> bool:
    try:
        return not differences(load_recipe(str(folder / "config.yaml")), recipe)
    except (KinshotError, OSError):
        return False


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
