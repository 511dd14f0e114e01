"""Several checkpoints put together: means over runs that differ by their seed alone, differences between all others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from kinshot.core.config import flatten
from kinshot.core.errors import ConfigError
from kinshot.core.statistics.pairing import paired_by
from kinshot.core.statistics.parts import Estimate
from kinshot.recipes.recipe import Recipe
from kinshot.recipes.specs import Task
from kinshot.studies.intervals import Intervals
from kinshot.studies.summaries import Line, Measured, by_size, corrected, summarized


@dataclass(frozen=True)
class Pool:
    """Checkpoints that are one row.

    Args:
        label: what the row is called.
        seeds: seed of each checkpoint, by its own name.
    """

    label: str
    seeds: Mapping[str, int]


@dataclass(frozen=True)
class Between:
    """A model minus another one on the same episodes: points, 95 % half-width, p-value, and that corrected for the number of pairs.

    `paired` says what the two share beside the episodes: "seeds" or nothing.
    """

    model: str
    against: str
    feature: str
    head: str
    ways: int | str
    shots: int | str
    mean: float
    ci95: float
    p: float
    n: int
    paired: str
    p_holm: float = 1.0


def pooled(measured: Sequence[Measured], pools: Sequence[Pool]) -> list[Measured]:
    """What was measured of each pool's checkpoints, stacked (C, E); those of a single checkpoint as they are, under the pool's label."""
    found = []
    for pool in pools:
        for key, of in _by_key(measured).items():
            if all(name in of for name in pool.seeds):
                rows = [of[name].accuracy for name in pool.seeds]
                feature, head, (ways, shots) = key
                found.append(Measured(pool.label, feature, head, ways, shots, np.stack(rows) if len(rows) > 1 else rows[0]))
    return found


def differences(measured: Sequence[Measured], pools: Sequence[Pool], intervals: Intervals) -> list[Between]:
    """Any two pools, the later name minus the earlier, so that the order in which they were given changes nothing."""
    found = []
    for key, of in _by_key(measured).items():
        feature, head, (ways, shots) = key
        for one, other in combinations(sorted(pools, key=lambda pool: pool.label), 2):
            if all(name in of for name in (*one.seeds, *other.seeds)):
                over, n, paired = _difference(of, other, one, intervals, (ways, shots))
                row = (other.label, one.label, feature, head, ways, shots, over.mean, over.half_width, over.p, n)
                found.append(Between(*row, "seeds" if paired else ""))
    return corrected(found, lambda d: (d.feature, d.head, d.ways, d.shots))


def _difference(of: Mapping[str, Measured], a: Pool, b: Pool, intervals: Intervals, task: Task) -> tuple[Estimate, int, bool]:
    """a minus b: by seed where they share two or more, by episode alone otherwise; what it is over, and whether by seed."""
    mine, theirs = ({seed: name for name, seed in pool.seeds.items()} for pool in (a, b))
    shared = paired_by(mine, theirs).values()
    if len(shared) >= 2:
        found = np.stack([of[one].accuracy - of[other].accuracy for one, other in shared])
        return intervals.of(found, task), len(shared), True
    first, second = (np.stack([of[name].accuracy for name in pool.seeds]) for pool in (a, b))
    count = first.shape[1] if len(first) == len(second) == 1 else min(len(rows) for rows in (first, second) if len(rows) > 1)
    return intervals.between(first, second, task), count, False


def compared(
    measured: Sequence[Measured], recipes: Mapping[str, Recipe], key: str, intervals: Intervals, siblings: Sequence[Collection[str]]
) -> list[Line]:
    """Means for every value of a setting, and the last value against each other one, paired by seed: same seed, same episodes.

    Values of one checkpoint each have intervals over episodes: they say nothing of other seeds.

    Args:
        measured: accuracies of every checkpoint.
        recipes: recipe of each checkpoint by the name of its lines.
        key: the setting, or several separated by commas, whose values are then taken together.
        intervals: how intervals are made.
        siblings: names of the checkpoints that differ by their seed alone.

    Raises:
        ConfigError: one value only, or checkpoints of one value that differ otherwise than by their seed.
    """
    values = {name: _values(recipe, key) for name, recipe in recipes.items()}
    found = sorted(set(values.values()), key=lambda value: [by_size(part) for part in value])
    if len(found) < 2:
        raise ConfigError(f"--compare {key}: expected two values or more among the checkpoints, got {_said(key, found[0])}")
    pools = [Pool(_said(key, value), {name: recipes[name].seed for name in recipes if values[name] == value}) for value in found]
    for pool in pools:
        _check_alike(pool, key, siblings)
    lines, last = summarized(pooled(measured, pools), intervals), pools[-1]
    for pool, value in zip(pools[:-1], found[:-1], strict=True):
        end = last.label if len(value) > 1 else str(found[-1][0])
        for (feature, head, task), of in _by_key(measured).items():
            if all(name in of for name in (*pool.seeds, *last.seeds)):
                over, n, paired = _difference(of, last, pool, intervals, task)
                single = len(pool.seeds) == len(last.seeds) == 1
                title = f"{pool.label} to {end}, {'paired' if paired or single else 'not paired'}"
                lines.append(Line(title, feature, head, *task, over.mean, over.half_width, n))
    return lines


def _check_alike(pool: Pool, key: str, siblings: Sequence[Collection[str]]) -> None:
    """Raise ConfigError where a value's checkpoints are no seeds of one recipe."""
    seeds = list(pool.seeds.values())
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    remedy = "so they differ otherwise too and cannot be paired: name that setting too, separated by a comma"
    if twice is not None:
        raise ConfigError(f"--compare {key}: several checkpoints have {pool.label} and seed {twice}, {remedy}")
    if len(seeds) > 1 and not any(set(pool.seeds) <= set(names) for names in siblings):
        raise ConfigError(f"--compare {key}: the checkpoints {', '.join(pool.seeds)} share {pool.label} but not all else, {remedy}")


_Key = tuple[str, str, Task]


def _by_key(measured: Sequence[Measured]) -> dict[_Key, dict[str, Measured]]:
    """(feature, head, task) -> model -> what was measured."""
    found: dict[_Key, dict[str, Measured]] = {}
    for m in measured:
        found.setdefault((m.feature, m.head, m.task), {})[m.model] = m
    return found


def _values(recipe: Recipe, key: str) -> tuple[Any, ...]:
    settings = flatten(recipe.to_dict())
    return tuple(settings.get(part.strip()) for part in key.split(","))


def _said(key: str, value: tuple[Any, ...]) -> str:
    return ", ".join(f"{part.strip()} {found}" for part, found in zip(key.split(","), value, strict=True))
