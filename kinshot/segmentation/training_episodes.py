"""Dense episodes to train on: whole batches of them as sample indices, and the way back from a batch to support and query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_seed
from kinshot.segmentation.dense import Dense, way_maps
from kinshot.segmentation.episodes import DenseEpisodes, sample_dense_episodes

Others = Literal["background", "ignore"]
_KEPT = 2
"""Epochs whose draws are kept: the one that runs, and one that is loaded ahead."""


@dataclass(frozen=True)
class SceneShape:
    """The size of the dense episodes in a batch.

    Args:
        ways: W, classes of an episode.
        shots: K, support images of each.
        queries: Q, queries of an episode, all ways together.
        tasks: T, episodes in a batch.
    """

    ways: int
    shots: int
    queries: int
    tasks: int = 1

    @property
    def images(self) -> int:
        """Images of an episode: its support, way by way, and then its queries."""
        return self.ways * self.shots + self.queries

    @property
    def batch(self) -> int:
        """Images in a batch."""
        return self.tasks * self.images

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of a batch, (B, ...), as support (T, W, K, ...) and query (T, Q, ...)."""
        rows, support = x.unflatten(0, (self.tasks, self.images)), self.ways * self.shots
        return rows[:, :support].unflatten(1, (self.ways, self.shots)), rows[:, support:]


@dataclass(frozen=True)
class SceneOrder:
    """What a method's `order` is when it learns from dense episodes: epoch -> (steps, B) sample indices.

    A row is laid out (tasks, ways * shots + queries), of each task the support way by way and then the queries. Every epoch has its own
    draws, keyed by (seed, epoch, number of the episode); no photograph is in the support and in the query of an episode.

    Args:
        contains: bool (N, C), the classes that each sample counts for.
        photos: int64 (N,), the photograph that each sample is of.
        shape: size of the episodes.
        steps: batches in an epoch.
        seed: the run's seed.
        short_classes: what to do about classes with too few photographs, as in `sample_dense_episodes`.
    """

    contains: np.ndarray
    photos: np.ndarray
    shape: SceneShape
    steps: int
    seed: int
    short_classes: Literal["refuse", "leave_out"] = "refuse"
    _drawn: dict[int, DenseEpisodes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, epoch: int) -> Tensor:
        """This epoch's batches: int64 (steps, B)."""
        found = self.episodes(epoch)
        rows = np.concatenate([found.support.reshape(len(found), -1), found.query], axis=1)
        return torch.from_numpy(rows.reshape(self.steps, self.shape.batch))

    def episodes(self, epoch: int) -> DenseEpisodes:
        """All episodes of an epoch, step by step."""
        if epoch not in self._drawn:
            while len(self._drawn) >= _KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[epoch] = sample_dense_episodes(
                self.contains,
                self.photos,
                ways=self.shape.ways,
                shots=self.shape.shots,
                queries=self.shape.queries,
                episodes=self.steps * self.shape.tasks,
                seed=keyed_seed(self.seed, "dense training episodes", epoch),
                short_classes=self.short_classes,
            )
        return self._drawn[epoch]

    def classes(self, step: int) -> np.ndarray:
        """The value in class maps of each way's class in the episodes of a step of the whole run: int64 (T, W)."""
        epoch, place = divmod(step, self.steps)
        return self.episodes(epoch).classes[place * self.shape.tasks : (place + 1) * self.shape.tasks]


def scene_order(name: str, context: RunContext, shape: SceneShape, short_classes: Literal["refuse", "leave_out"] = "refuse") -> SceneOrder:
    """The order of a method that trains on dense episodes, once its settings and the data allow it.

    Raises:
        ConfigError: data without class maps, a number below its minimum, or a `train.batch_size` that is not the size of the episodes.
        DataError: fewer classes than ways, or a class with too few photographs.
    """
    if context.contains is None or context.photos is None:
        raise ConfigError(f"{name} learns from class maps and the data has none: choose a source of scenes, such as glyph_scenes")
    for setting in ("ways", "shots", "queries", "tasks"):
        if (value := getattr(shape, setting)) < 1:
            raise ConfigError(f"{name}: {setting} must be at least 1, got {value}")
    if context.batch_size != shape.batch:
        raise ConfigError(
            f"{name}: {shape.tasks} episodes of {shape.ways} x {shape.shots} + {shape.queries} images make {shape.batch}, "
            f"got train.batch_size {context.batch_size}: set train.batch_size={shape.batch}"
        )
    order = SceneOrder(
        np.asarray(context.contains), np.asarray(context.photos), shape, context.steps_per_epoch, context.seed, short_classes
    )
    order.episodes(0)  # what the data cannot serve is said before anything runs
    return order


def dense_of_batch(
    maps: Mapping[str, Tensor], masks: Tensor, classes: Tensor, shape: SceneShape, others: Others = "background"
) -> tuple[Dense, Tensor]:
    """The dense episodes of a batch, and the way maps of their queries, int64 (T, Q, H, W).

    Args:
        maps: of the batch's images by stage, each (B, C, h, w); the first stage is the one that is compared.
        masks: class maps of the batch, int64 (B, H, W), values as in `kinshot.datasets.scenes`.
        classes: int64 (T, W), the value of each way's class in them.
        shape: size of the episodes.
        others: what objects of classes that are no way of an episode are, see `way_maps`.
    """
    parts = {stage: shape.split(values) for stage, values in maps.items()}
    support, query = (way_maps(part, classes.to(masks.device), others) for part in shape.split(masks))
    episodes = Dense({stage: part[0] for stage, part in parts.items()}, support, {stage: part[1] for stage, part in parts.items()})
    return episodes, query
