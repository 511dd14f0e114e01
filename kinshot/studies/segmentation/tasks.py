"""Sources with class maps, and the dense episodes of an evaluation over them: drawn, or from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.scenes import Scenes
from kinshot.recipes.backbones import known_data
from kinshot.recipes.recipe import Choice
from kinshot.samples.spec import Spec
from kinshot.segmentation.episode_checks import problems
from kinshot.segmentation.episode_files import EpisodeList, fingerprint_of, read_dense_episodes, read_episode_list, write_episode_list
from kinshot.segmentation.episodes import DenseEpisodes, sample_dense_episodes, short_of

Say = Callable[[str], None]
SceneTasks = dict[tuple[int, int], DenseEpisodes]
"""(ways, shots) -> episodes."""


@dataclass(frozen=True)
class SceneDrawing:
    """How dense episodes come about.

    Args:
        ways: classes of an episode, several allowed.
        shots: support images of each class, several allowed.
        queries: of an episode, all classes together.
        episodes: per task.
        seed: key of the episodes.
        short_classes: what to do about classes with too few photographs, see `sample_dense_episodes`.
        list: a file of episodes; empty to draw them.
        save: file to write the episodes of a single task to.
    """

    ways: Sequence[int]
    shots: Sequence[int]
    queries: int = 1
    episodes: int = 1000
    seed: int = 0
    short_classes: Literal["refuse", "leave_out"] = "refuse"
    list: str = ""
    save: Path | None = None

    def describe(self, tasks: SceneTasks) -> dict[str, str | int]:
        """What a report says of the episodes, their hashes among it: equal hashes are equal episodes."""
        hashes = ", ".join(f"{ways}-way {shots}-shot {found.hash()[:12]}" for (ways, shots), found in tasks.items())
        if self.list:
            return {"episodes": sum(map(len, tasks.values())), "from": self.list, "episode hashes": hashes}
        return {"queries": self.queries, "episodes": self.episodes, "seed": self.seed, "episode hashes": hashes}


def scenes_of(choice: Choice | None, input: Spec | None = None) -> Scenes:
    """The source of a choice, its images in the size that an encoder expects where the source can and the user did not say.

    Raises ConfigError for no choice, DataError for a source without class maps.
    """
    if choice is None:
        raise ConfigError("--data is missing: name a source of images with class maps (`ssl list 'data source'`)")
    settings, known = dict(known_data(choice).settings), SOURCES.entry(choice.name).parameters
    for key, value in (input.rendering if input is not None else {}).items():
        if key in known and key not in settings:
            settings[key] = value
    source = SOURCES.build(choice.name, settings=settings)
    if not isinstance(source, Scenes):
        raise DataError(f"{choice.name} has no class maps, and episodes need them: choose a source of scenes, such as mask_folder")
    return source


def make_tasks(source: Scenes, drawing: SceneDrawing, say: Say) -> SceneTasks:
    """The episodes of every task over a source, kept in a file where that was asked for.

    Raises ConfigError for settings that contradict each other, DataError for what the source cannot give.
    """
    if drawing.list:
        found = read_dense_episodes(drawing.list, source)
        tasks = {(found.ways, found.shots): found}
    else:
        tasks = {(ways, shots): drawn(source, ways, shots, drawing, say) for ways in drawing.ways for shots in drawing.shots}
    if drawing.save is not None:
        if len(tasks) != 1:
            raise ConfigError(f"--save-episodes keeps one task, got {len(tasks)}: give one of --ways and one of --shots")
        write_episode_list(drawing.save, episode_list(next(iter(tasks.values())), source))
    return tasks


def drawn(source: Scenes, ways: int, shots: int, drawing: SceneDrawing, say: Say) -> DenseEpisodes:
    """Episodes of one task; says which classes are left out. Raises what `sample_dense_episodes` does."""
    contains, names, size = np.asarray(source.contains), source.class_names, {"ways": ways, "shots": shots, "queries": drawing.queries}
    if drawing.short_classes == "leave_out":
        short = short_of(contains, source.photos, **size)
        told = ", ".join(f"{names[c]} ({count})" for c, count in short.items())
        if short:
            say(f"{source.name}: {ways}-way {shots}-shot leaves out {len(short)} classes with too few photographs: {told}")
    return sample_dense_episodes(
        contains, source.photos, **size, episodes=drawing.episodes, seed=drawing.seed, class_names=names,
        short_classes=drawing.short_classes,
    )  # fmt: skip


def episode_list(episodes: DenseEpisodes, source: Scenes) -> EpisodeList:
    """Episodes as they are kept in a file."""
    return EpisodeList(episodes, tuple(source.class_names), fingerprint_of(source))


def inspected(path: Path, source: Scenes | None) -> dict[str, Any]:
    """What is in a file of episodes, and with a source what is wrong with them there. Raises what `read_episode_list` does."""
    kept = read_episode_list(path)
    found, names = kept.episodes, kept.class_names
    asked = np.take_along_axis(found.classes, found.target, axis=1)
    values, plays = np.unique(found.classes, return_counts=True)
    queries = {int(value): int(count) for value, count in zip(*np.unique(asked, return_counts=True), strict=True)}
    told: dict[str, Any] = {
        "file": str(path), "hash": found.hash(), "fingerprint": kept.fingerprint, "episodes": len(found), "ways": found.ways,
        "shots": found.shots, "queries": found.queries,
        "images": len(np.unique(np.concatenate([found.support.ravel(), found.query.ravel()]))),
        "query images": len(np.unique(found.query)),
        "classes": {
            names[value - 1] if 0 < value <= len(names) else str(value): f"{count} episodes, {queries.get(value, 0)} queries"
            for value, count in zip(values.tolist(), plays.tolist(), strict=True)
        },
    }  # fmt: skip
    return told if source is None else {**told, **_against(kept, source)}


def _against(kept: EpisodeList, source: Scenes) -> dict[str, Any]:
    contains, photos, ours = np.asarray(source.contains), source.photos, fingerprint_of(source)
    wrong = problems(kept.episodes, contains, photos, source.class_names)
    if kept.class_names and list(kept.class_names) != list(source.class_names):
        wrong.append(
            f"it names {len(kept.class_names)} classes, and {source.name} has others or in another order ({len(source.class_names)})"
        )
    if kept.fingerprint and kept.fingerprint != ours:
        wrong.append(f"it was made for data with fingerprint {kept.fingerprint[:12]}, {source.name} has {ours[:12]}")
    used = np.unique(np.concatenate([kept.episodes.support.ravel(), kept.episodes.query.ravel()]))
    shown = {"photographs": len(np.unique(photos[used])), "of photographs": len(np.unique(photos))} if not wrong else {}
    return {"data": source.name, **shown, "problems": wrong}
