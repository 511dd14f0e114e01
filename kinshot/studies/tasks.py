"""The episodes of an evaluation: drawn, of one size or of several, with unbalanced queries, over all classes, published, or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.fewshot.dirichlet import dirichlet_episodes, exhausted
from kinshot.fewshot.draws import pool_of
from kinshot.fewshot.duplicates import check_duplicates
from kinshot.fewshot.episode_files import read_groups, write_episodes
from kinshot.fewshot.episodes import Episodes, sample_episodes, support_sizes
from kinshot.fewshot.groups import EpisodeGroups, grouped
from kinshot.fewshot.oneshot_runs import lake_oneshot_runs
from kinshot.fewshot.protocols import all_way_episodes, variable_episodes
from kinshot.recipes.specs import Size, Task

ALL_WAYS = 0
"""Stands for every class of the source at once."""
LAKE = "lake"
_MOST_EXHAUSTED = 0.05
WAYS, QUERIES = 5, 15
"""Sizes of an episode where nobody asks for others and the classes have as many."""
_UNEVEN = 3
"""A third of what a class has left, on average, seldom takes all of it where queries are unbalanced."""
Tasks = dict[Task, Episodes | EpisodeGroups]
"""(ways, shots) -> episodes."""


@dataclass(frozen=True)
class Drawing:
    """How episodes come about.

    Args:
        ways: classes per episode, several allowed; ALL_WAYS for all; (least, most) for episodes that differ; None for 5, or all of fewer.
        shots: support images per class, several allowed; (least, most) for classes that differ.
        queries: query images per class, on average where they are unbalanced; None for 15, or what the smallest class has left of fewer.
        episodes: episodes per task.
        seed: key of the episodes.
        unbalanced: alpha of the Dirichlet distribution that the classes' shares of the queries come from; 0 for equal shares.
        list: "lake" for the 20 published one-shot runs, or a file of episodes; empty to draw them.
        save: file to write the episodes of a single task to.
        duplicates: what becomes of queries that are copies of a support image: refuse them, or allow them.
    """

    ways: Sequence[Size] | None
    shots: Sequence[Size]
    queries: int | None
    episodes: int
    seed: int
    unbalanced: float = 0.0
    list: str = ""
    save: Path | None = None
    duplicates: Literal["refuse", "allow"] = "refuse"

    def describe(self, tasks: Tasks) -> dict[str, str | int]:
        """What a report says of the episodes, their hashes among it: equal hashes are equal episodes."""
        hashes = ", ".join(f"{ways}-way {shots}-shot {episodes.hash()[:12]}" for (ways, shots), episodes in tasks.items())
        if self.list:
            return {"episodes": sum(map(len, tasks.values())), "from": self.list, "episode hashes": hashes}
        asked = queries_of(tasks)
        fewer = f", as the smallest class has no more beside {_most(self.shots)} shots" if self.queries is None and asked < QUERIES else ""
        queries = f"{asked} per class" + (f" on average, Dirichlet({self.unbalanced:g})" if self.unbalanced else "") + fewer
        ranges = any(isinstance(size, tuple) for size in (*(self.ways or ()), *self.shots))
        sizes = {"sizes": "uniform in their ranges, every class its own number of shots"} if ranges else {}
        return {"queries": queries, **sizes, "episodes": self.episodes, "seed": self.seed, "episode hashes": hashes}


def queries_of(tasks: Tasks) -> int:
    """Query images per class of drawn episodes, on average."""
    first = grouped(next(iter(tasks.values()))).groups[0]
    return first.query.shape[1] // first.ways


def fitted(labels: np.ndarray, drawing: Drawing) -> Drawing:
    """The drawing with ways and queries that were left open chosen by the classes that there are."""
    pool = pool_of(labels)
    ways = drawing.ways if drawing.ways is not None else [min(WAYS, max(2, len(pool.classes)))]
    if drawing.queries is not None or not len(pool.classes):
        return replace(drawing, ways=ways, queries=drawing.queries or QUERIES)
    left = int(pool.counts.min()) - _most(drawing.shots)
    return replace(drawing, ways=ways, queries=max(1, min(QUERIES, left // _UNEVEN if drawing.unbalanced else left)))


def _most(sizes: Sequence[Size]) -> int:
    return max(size[1] if isinstance(size, tuple) else size for size in sizes)


def make_tasks(source: Source, drawing: Drawing) -> Tasks:
    """The episodes of every task over a labelled source; ways and queries that were left open are chosen by its classes.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: too few classes or images, a query that is a copy of a support image, or a file of episodes that does not fit the
            source; with the counts.
    """
    if drawing.list:
        tasks = _listed(source, drawing.list)
    else:
        known = fitted(np.asarray(source.labels), drawing)
        tasks = dict(_drawn(source, ways, shots, known) for ways in known.ways or () for shots in known.shots)
    if drawing.duplicates == "refuse":
        _refuse_duplicates(source, tasks)
    if drawing.save is not None:
        if len(tasks) != 1:
            raise ConfigError(f"--save-episodes keeps one task, got {len(tasks)}: give one of --ways and one of --shots")
        write_episodes(drawing.save, next(iter(tasks.values())), fingerprint=source.fingerprint())
    return tasks


def _refuse_duplicates(source: Source, tasks: Tasks) -> None:
    groups = [group for task in tasks.values() for group in grouped(task).groups]
    used = np.unique(np.concatenate([part.numpy().ravel() for group in groups for part in (group.support, group.query)]))
    hashes = np.zeros(len(source), dtype="S32")
    hashes[used] = source.digests(used)
    for task in tasks.values():
        check_duplicates(task, hashes)


def _listed(source: Source, name: str) -> Tasks:
    if name == LAKE:
        found = grouped(lake_oneshot_runs(source))
    else:
        found = read_groups(Path(name), labels=np.asarray(source.labels), fingerprint=source.fingerprint())
    ways = [group.ways for group in found.groups]
    shots = np.concatenate([support_sizes(group).ravel() for group in found.groups])
    task = _named((min(ways), max(ways))), _named((int(shots.min()), int(shots.max())))
    return {task: found if len(found.groups) > 1 else found.alone()}


def _named(size: Size) -> int | str:
    """How a report names a size: 5, or "2-10"."""
    least, most = size if isinstance(size, tuple) else (size, size)
    return most if least == most else f"{least}-{most}"


def _variable(source: Source, ways: Size, shots: Size, queries: int, d: Drawing) -> tuple[Task, EpisodeGroups]:
    if ways == ALL_WAYS or d.unbalanced:
        other = "--unbalanced" if d.unbalanced else "--ways all"
        raise ConfigError(f"{other} needs one number at a time, got the range {_named(shots if isinstance(shots, tuple) else ways)}")
    found = variable_episodes(
        np.asarray(source.labels),
        ways=ways if isinstance(ways, tuple) else (ways, ways),
        shots=shots if isinstance(shots, tuple) else (shots, shots),
        queries=queries,
        episodes=d.episodes,
        seed=d.seed,
        class_names=source.class_names,
    )
    return (_named(ways), _named(shots)), found


def _drawn(source: Source, ways: Size, shots: Size, d: Drawing) -> tuple[Task, Episodes | EpisodeGroups]:
    queries = d.queries or QUERIES
    if isinstance(ways, tuple) or isinstance(shots, tuple):
        return _variable(source, ways, shots, queries, d)
    labels, names = np.asarray(source.labels), source.class_names
    if ways == ALL_WAYS:
        if d.unbalanced:
            raise ConfigError("--unbalanced needs a number of ways: with all of them every class has its queries")
        found = all_way_episodes(labels, shots=shots, queries=queries, episodes=d.episodes, seed=d.seed, class_names=names)
        return (found.ways, shots), found
    if d.unbalanced:
        found = dirichlet_episodes(
            labels,
            ways=ways,
            shots=shots,
            total=ways * queries,
            episodes=d.episodes,
            seed=d.seed,
            alpha=d.unbalanced,
            limit="redistribute",
            class_names=names,
        )
        used = exhausted(found, labels)
        if used > _MOST_EXHAUSTED:
            raise DataError(
                f"--unbalanced {d.unbalanced:g}: {ways * queries} queries beside {shots} shots take every image of {100 * used:.0f} % of "
                f"the classes, which evens their numbers out: lower --queries (an episode has {ways} times as many in all)"
            )
        return (ways, shots), found
    found = sample_episodes(labels, ways=ways, shots=shots, queries=queries, episodes=d.episodes, seed=d.seed, class_names=names)
    return (ways, shots), found
