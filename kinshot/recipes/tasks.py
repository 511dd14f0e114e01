"""The episodes of an evaluation: drawn, with unbalanced queries, over all classes, published, or read from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.fewshot.dirichlet import dirichlet_episodes, exhausted
from kinshot.fewshot.duplicates import check_duplicates
from kinshot.fewshot.episode_files import read_episodes, write_episodes
from kinshot.fewshot.episodes import Episodes, sample_episodes
from kinshot.fewshot.oneshot_runs import lake_oneshot_runs
from kinshot.fewshot.protocols import all_way_episodes

ALL_WAYS = 0
"""Stands for every class of the source at once."""
LAKE = "lake"
_MOST_EXHAUSTED = 0.05
Tasks = dict[tuple[int, int], Episodes]
"""(ways, shots) -> episodes."""


@dataclass(frozen=True)
class Drawing:
    """How episodes come about.

    Args:
        ways: classes per episode, several allowed; ALL_WAYS for all.
        shots: support images per class, several allowed.
        queries: query images per class, on average where they are unbalanced.
        episodes: episodes per task.
        seed: key of the episodes.
        unbalanced: alpha of the Dirichlet distribution that the classes' shares of the queries come from; 0 for equal shares.
        list: "lake" for the 20 published one-shot runs, or a file of episodes; empty to draw them.
        save: file to write the episodes of a single task to.
        duplicates: what becomes of queries that are copies of a support image: refuse them, or allow them.
    """

    ways: list[int]
    shots: list[int]
    queries: int
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
        queries = f"{self.queries} per class" + (f" on average, Dirichlet({self.unbalanced:g})" if self.unbalanced else "")
        return {"queries": queries, "episodes": self.episodes, "seed": self.seed, "episode hashes": hashes}


def make_tasks(source: Source, drawing: Drawing) -> Tasks:
    """The episodes of every task over a labelled source.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: too few classes or images, a query that is a copy of a support image, or a file of episodes that does not fit the
            source; with the counts.
    """
    if drawing.list:
        tasks = _listed(source, drawing.list)
    else:
        tasks = dict(_drawn(source, ways, shots, drawing) for ways in drawing.ways for shots in drawing.shots)
    if drawing.duplicates == "refuse":
        _refuse_duplicates(source, tasks)
    if drawing.save is not None:
        if len(tasks) != 1:
            raise ConfigError(f"--save-episodes keeps one task, got {len(tasks)}: give one of --ways and one of --shots")
        write_episodes(drawing.save, next(iter(tasks.values())), fingerprint=source.fingerprint())
    return tasks


def _refuse_duplicates(source: Source, tasks: Tasks) -> None:
    used = np.unique(np.concatenate([part.numpy().ravel() for e in tasks.values() for part in (e.support, e.query)]))
    hashes = np.zeros(len(source), dtype="S32")
    hashes[used] = source.digests(used)
    for episodes in tasks.values():
        check_duplicates(episodes, hashes)


def _listed(source: Source, name: str) -> Tasks:
    if name == LAKE:
        episodes = lake_oneshot_runs(source)
    else:
        episodes = read_episodes(Path(name), labels=np.asarray(source.labels), fingerprint=source.fingerprint())
    return {(episodes.ways, episodes.support.shape[1] // episodes.ways): episodes}


def _drawn(source: Source, ways: int, shots: int, d: Drawing) -> tuple[tuple[int, int], Episodes]:
    labels, names = np.asarray(source.labels), source.class_names
    if ways == ALL_WAYS:
        if d.unbalanced:
            raise ConfigError("--unbalanced needs a number of ways: with all of them every class has its queries")
        found = all_way_episodes(labels, shots=shots, queries=d.queries, episodes=d.episodes, seed=d.seed, class_names=names)
        return (found.ways, shots), found
    if d.unbalanced:
        found = dirichlet_episodes(
            labels,
            ways=ways,
            shots=shots,
            total=ways * d.queries,
            episodes=d.episodes,
            seed=d.seed,
            alpha=d.unbalanced,
            limit="redistribute",
            class_names=names,
        )
        used = exhausted(found, labels)
        if used > _MOST_EXHAUSTED:
            raise DataError(
                f"--unbalanced {d.unbalanced:g}: {ways * d.queries} queries beside {shots} shots take every image of {100 * used:.0f} % of "
                f"the classes, which evens their numbers out: lower --queries (an episode has {ways} times as many in all)"
            )
        return (ways, shots), found
    found = sample_episodes(labels, ways=ways, shots=shots, queries=d.queries, episodes=d.episodes, seed=d.seed, class_names=names)
    return (ways, shots), found
