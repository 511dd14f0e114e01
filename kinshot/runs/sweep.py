"""Several runs of one recipe: every combination of settings and seeds, one after another, continued where it was stopped."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinshot.core.errors import ConfigError, KinshotError
from kinshot.recipes.fit import fit_like, made_by
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import Recipe, differences, load_recipe
from kinshot.recipes.specs import parse_numbers

Say = Callable[[str], None]
SAME_AS_SEED = "@seed"
_LONGEST = 200
"""Bytes of a folder's name; file systems take 255."""


@dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Args:
        out: its folder.
        overrides: its settings, `key=value`.
        recipe: what they make.
        varied: keys of settings that have several values in the sweep.
    """

    out: Path
    overrides: list[str]
    recipe: Recipe
    varied: tuple[str, ...] = ()


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
    several = tuple(key for key, found in axes if len(found) > 1)
    return [Planned(place, overrides, checked, several) for place, (_, overrides, checked) in zip(places, planned, strict=True)]


def seeds_among(settings: tuple[str, ...], seeds: str) -> tuple[tuple[str, ...], list[int]]:
    """The settings without `seed=0,1,2`, and the seeds: those, or the numbers of the option `--seeds`, 0 without either.

    Raises ConfigError for both, or for what are no numbers.
    """
    given = [text for text in settings if text.partition("=")[0].strip() == "seed" and text.partition("=")[2].strip() != SAME_AS_SEED]
    if len(given) > 1 or (given and seeds):
        twice = [*given, *([f"--seeds {seeds}"] if seeds else [])]
        raise ConfigError(f"seeds are given twice, {' and '.join(twice)}: write seed=0,1,2 once")
    numbers = parse_numbers(given[0].partition("=")[2] if given else seeds or "0", "seed=" if given else "--seeds", lowest=0)
    return tuple(text for text in settings if text not in given), numbers


def run_sweep(planned: list[Planned], say: Say, done: Callable[[], object] = lambda: None) -> list[dict[str, Any]]:
    """Run what is not finished yet; returns each run's result. A signal ends it after a checkpoint, and the next call continues.

    `done` is called after every run.
    """
    from kinshot.runs.start import Options
    from kinshot.runs.train import train_recipe

    results = []
    for number, job in enumerate(planned, 1):
        say(f"[{number}/{len(planned)}] {job.out}")
        results.append(train_recipe(job.recipe, Options(job.out, "auto", quiet=True), lambda text: None))
        done()
    return results


def _folders(out: Path, runs: list[tuple[str, Recipe]]) -> list[Path]:
    """A folder of its own for each run and its name: where a file name cannot hold that, some of it is replaced and a digest follows.

    Earlier versions left the digest out, so that `a/b` and `a-b` met: a run that is there already is continued where it is.
    """
    held = [next((place for place in _candidates(out, name) if is_run_of(place, recipe)), None) for name, recipe in runs]
    found = []
    for place, (name, _) in zip(held, runs, strict=True):
        plain, digested = _candidates(out, name)
        found.append(place or (plain if plain.name == name and plain not in held else digested))
    return found


def _candidates(out: Path, name: str) -> tuple[Path, Path]:
    """The folder of a run by its name, as far as that is one, and the one with a digest of the name."""
    plain = name.replace("/", "-").encode()[:_LONGEST].decode("utf-8", "ignore")
    return out / plain, out / f"{plain}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def is_run_of(folder: Path, recipe: Recipe) -> bool:
    """Whether a folder holds a run of this recipe, what the recipe leaves open being as the run has it."""
    try:
        if not differences(load_recipe(str(folder / "config.yaml")), recipe):
            return True
        run = read(folder, parts=("encoder",))
        return not differences(made_by(run), fit_like(recipe, run))
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
