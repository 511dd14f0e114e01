"""Lines of an accuracy report: means over checkpoints, differences paired by seed, the verdict against the references."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kinshot.core.config import flatten
from kinshot.core.errors import ConfigError
from kinshot.fewshot.statistics import interval, paired_test
from kinshot.recipes.recipe import Recipe
from kinshot.recipes.specs import Task

UNTRAINED, RAW = "untrained", "raw pixels"
SEED_RULE = "Student t, 95 %, over checkpoints"


def is_reference(model: str) -> bool:
    """Whether a row's model is a reference, of all checkpoints or, `untrained (runs/x)`, of one of them."""
    return model.partition(" (")[0] in (UNTRAINED, RAW)


@dataclass(frozen=True)
class Line:
    """Accuracy of one model, feature and head on one task, in percent."""

    model: str
    feature: str
    head: str
    ways: int | str
    shots: int | str
    mean: float
    ci95: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.ci95

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.ci95


@dataclass(frozen=True)
class Measured:
    """Accuracy of one model, feature and head in every episode of one task, in percent (E,)."""

    model: str
    feature: str
    head: str
    ways: int | str
    shots: int | str
    accuracy: np.ndarray


@dataclass(frozen=True)
class Difference:
    """A head against the first one on the same episodes: mean difference in points, its 95 % half-width, p-value, wins and losses."""

    model: str
    feature: str
    head: str
    against: str
    ways: int | str
    shots: int | str
    mean: float
    ci95: float
    p: float
    wins: int
    losses: int
    n: int


def summarized(measured: list[Measured]) -> list[Line]:
    """The mean over episodes of everything that was measured."""
    lines = []
    for m in measured:
        found = interval(m.accuracy)
        lines.append(Line(m.model, m.feature, m.head, m.ways, m.shots, found.mean, found.half_width, found.count))
    return lines


def head_differences(measured: list[Measured]) -> list[Difference]:
    """Every head against the first one, episode by episode."""
    first: dict[tuple[str, str, Task], Measured] = {}
    found = []
    for m in measured:
        against = first.setdefault((m.model, m.feature, (m.ways, m.shots)), m)
        if against is not m:
            test = paired_test(m.accuracy, against.accuracy)
            mean, half = test.difference.mean, test.difference.half_width
            task = (m.model, m.feature, m.head, against.head, m.ways, m.shots)
            found.append(Difference(*task, mean, half, test.p, test.wins, test.losses, test.difference.count))
    return found


def over_checkpoints(lines: list[Line], title: str = "") -> list[Line]:
    """The mean over checkpoints of every feature, head and task, with the interval over checkpoints."""
    groups: dict[tuple[str, str, Task], list[float]] = {}
    for line in lines:
        groups.setdefault((line.feature, line.head, (line.ways, line.shots)), []).append(line.mean)
    merged = []
    for (feature, head, (ways, shots)), means in groups.items():
        over = interval(np.array(means))
        merged.append(Line(title or f"mean of {over.count}", feature, head, ways, shots, over.mean, over.half_width, over.count))
    return merged


def compared(lines: list[Line], recipes: dict[str, Recipe], key: str) -> list[Line]:
    """Means for every value of a setting, and the last value against each other one, paired by seed: same seed, same episodes.

    Args:
        lines: accuracies of every checkpoint.
        recipes: recipe of each checkpoint by the name of its lines.
        key: the setting, or several separated by commas, whose values are then taken together.

    Raises:
        ConfigError: one value only, or several checkpoints of one value and one seed, which must differ otherwise too.
    """
    values = {path: _values(recipe, key) for path, recipe in recipes.items()}
    found = sorted(set(values.values()), key=lambda value: [by_size(part) for part in value])
    if len(found) < 2:
        raise ConfigError(f"--compare {key}: expected two values or more among the checkpoints, got {_said(key, found[0])}")
    runs = [(value, recipes[path].seed) for path, value in values.items()]
    twice = next((run for run in runs if runs.count(run) > 1), None)
    if twice is not None:
        problem = f"--compare {key}: several checkpoints have {_said(key, twice[0])} and seed {twice[1]}"
        raise ConfigError(f"{problem}, so they differ otherwise too and cannot be paired: name that setting too, separated by a comma")
    means = [line for value in found for line in over_checkpoints([x for x in lines if values[x.model] == value], _said(key, value))]
    of_seed = {(values[x.model], recipes[x.model].seed, x.feature, x.head, x.ways, x.shots): x.mean for x in lines}
    last = [line for line in lines if values[line.model] == found[-1]]
    differences = []
    for other in found[:-1]:
        tasks = [(other, recipes[line.model].seed, line.feature, line.head, line.ways, line.shots) for line in last]
        paired = [replace(line, mean=line.mean - of_seed[task]) for line, task in zip(last, tasks, strict=True) if task in of_seed]
        end = _said(key, found[-1]) if len(other) > 1 else str(found[-1][0])
        differences += over_checkpoints(paired, f"{_said(key, other)} to {end}, paired")
    return means + differences


def _values(recipe: Recipe, key: str) -> tuple[Any, ...]:
    settings = flatten(recipe.to_dict())
    return tuple(settings.get(part.strip()) for part in key.split(","))


def _said(key: str, value: tuple[Any, ...]) -> str:
    return ", ".join(f"{part.strip()} {found}" for part, found in zip(key.split(","), value, strict=True))


def by_size(value: Any) -> tuple[int, float, str]:
    """Sorting key of a setting's values: numbers by size, then everything else by its text."""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def beats(lines: list[Line]) -> bool:
    """Whether on every task the best pretrained row lies above every reference row with disjoint intervals."""
    for ways, shots in {(line.ways, line.shots) for line in lines}:
        task = [line for line in lines if (line.ways, line.shots) == (ways, shots)]
        ours = max(line.low for line in task if not is_reference(line.model))
        if ours <= max(line.high for line in task if is_reference(line.model)):
            return False
    return True
