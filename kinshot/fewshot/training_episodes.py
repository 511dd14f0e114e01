"""Episodes to train on: whole batches of them as sample indices, and the way back from a batch to support and query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_seed
from kinshot.fewshot.draws import check_classes, check_images, check_numbers, draw_classes, draw_images, pool_of


@dataclass(frozen=True)
class EpisodeShape:
    """The size of the episodes in a batch.

    Args:
        ways: W, classes of an episode, at least 2.
        shots: K, support images of each.
        queries: Q, query images of each.
        tasks: T, episodes in a batch.
    """

    ways: int
    shots: int
    queries: int
    tasks: int = 1

    @property
    def batch(self) -> int:
        """Images in a batch."""
        return self.tasks * self.ways * (self.shots + self.queries)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of a batch, (B, ...), as support (T, W, K, ...) and query (T, W, Q, ...)."""
        rows = x.unflatten(0, (self.tasks, self.ways, self.shots + self.queries))
        return rows[:, :, : self.shots], rows[:, :, self.shots :]

    def sets(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows of a batch as heads take them: support (T, W*K, ...), its ways (T, W*K), query (T, W*Q, ...), its ways."""
        support, query = self.split(x)
        way = torch.arange(self.ways, device=x.device)
        support_ways = way.repeat_interleave(self.shots).expand(self.tasks, -1)
        query_ways = way.repeat_interleave(self.queries).expand(self.tasks, -1)
        return support.flatten(1, 2), support_ways, query.flatten(1, 2), query_ways


@dataclass(frozen=True)
class EpisodeOrder:
    """What a training method's `order` is when it learns from episodes: epoch -> (steps, B) sample indices.

    A row is laid out (tasks, ways, shots + queries); the first `shots` of every way are its support. An episode's classes differ, its
    images too. Every epoch has its own draws, keyed by (seed, epoch, number of the episode).

    Args:
        labels: class of each sample, int64 (N,).
        shape: size of the episodes.
        steps: batches in an epoch.
        seed: the run's seed.
    """

    labels: np.ndarray
    shape: EpisodeShape
    steps: int
    seed: int

    def __call__(self, epoch: int) -> Tensor:
        """This epoch's batches: int64 (steps, B)."""
        pool, seed = pool_of(self.labels), keyed_seed(self.seed, "training episodes", epoch)
        index = np.arange(self.steps * self.shape.tasks)
        classes = draw_classes(index, pool, self.shape.ways, seed)
        images = draw_images(index, pool, classes, self.shape.shots + self.shape.queries, seed)
        return torch.from_numpy(images.reshape(self.steps, self.shape.batch))


def episode_order(name: str, context: RunContext, shape: EpisodeShape) -> EpisodeOrder:
    """The order of a method that trains on episodes, once its settings and the data allow it.

    Raises:
        ConfigError: a number below its minimum, or a `train.batch_size` that is not the size of the episodes; says what to set.
        DataError: fewer classes than ways, or a class with too few images.
    """
    check_numbers(("ways", shape.ways, 2), ("shots", shape.shots, 1), ("queries", shape.queries, 1), ("tasks", shape.tasks, 1))
    if context.batch_size != shape.batch:
        raise ConfigError(
            f"{name}: {shape.tasks} episodes of {shape.ways} ways with {shape.shots} + {shape.queries} images make {shape.batch}, "
            f"got train.batch_size {context.batch_size}: set train.batch_size={shape.batch}"
        )
    labels = class_labels(name, context).numpy()
    pool = pool_of(labels)
    check_classes(pool, shape.ways)
    check_images(pool, shape.shots, shape.queries, None)
    return EpisodeOrder(labels, shape, context.steps_per_epoch, context.seed)


def class_labels(name: str, context: RunContext) -> Tensor:
    """The class of every training sample, int64 (N,). Raises ConfigError where the data has no labels."""
    if context.labels is None:
        raise ConfigError(f"{name} learns from class labels and the data has none: choose a labelled source, or a method of `ssl pretrain`")
    return context.labels
