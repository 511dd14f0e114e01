"""Episodes for a `DataLoader` of any data set that has labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Sampler, default_collate

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.known_labels import known_labels, whole_numbers
from kinshot.fewshot.draws import check_classes, check_images, check_numbers, pool_of
from kinshot.fewshot.training_episodes import EpisodeOrder, EpisodeShape


class Task(NamedTuple):
    """T episodes as heads take them.

    Args:
        support: (T, W*K, ...), way by way.
        labels: way of each, 0..W-1, int64 (T, W*K).
        query: (T, W*Q, ...), way by way.
        query_labels: way of each, (T, W*Q).
    """

    support: Tensor
    labels: Tensor
    query: Tensor
    query_labels: Tensor


class EpisodeSampler(Sampler[list[int]]):
    """Batches that are few-shot episodes: the `batch_sampler` of a `DataLoader` over any data set that has labels.

    A batch holds `tasks` episodes, each `ways` classes way by way, each class `shots` support samples and then `queries` to ask about.
    Embed the whole batch at once and `unpack` its embeddings, or let the loader's `collate_fn` be `collate`, which unpacks the samples.
    Episode e of epoch n depends on (seed, n, e) and on the labels alone, whatever the workers: `set_epoch` says the epoch, which
    Lightning does by itself; without it every epoch has the same episodes, as validation wants.

    Args:
        data: a data set that knows its labels without loading samples (`targets` or `labels`, as torchvision's have; `get_labels()`, as
            easyfsl asks for; a `Subset`, `ConcatDataset` or `TensorDataset`; `as_dataset` of a source), or one integer for each sample.
            Samples with a negative label are of no known class and are never drawn.
        ways: W, classes of an episode, at least 2.
        shots: K, support samples of each.
        queries: Q, samples of each that are asked about.
        episodes: batches of an epoch.
        tasks: T, episodes in a batch.
        seed: key of every draw.
        rank: this process, where several share an epoch: it gets every `replicas`-th batch.
        replicas: how many processes there are.

    Raises:
        ConfigError: a number below its minimum, or a data set that does not say its labels.
        DataError: fewer classes than ways, or a class with too few samples.

    >>> sampler = kinshot.EpisodeSampler(np.repeat(np.arange(10), 6), ways=5, shots=1, queries=3, episodes=100)
    >>> len(sampler), len(next(iter(sampler)))
    (100, 20)
    >>> support, labels, query, query_labels = sampler.unpack(torch.zeros(20, 64))  # embeddings of a batch
    >>> kinshot.heads.prototype(support, labels, query, 5).shape
    torch.Size([1, 15, 5])
    """

    def __init__(
        self,
        data: Any,
        *,
        ways: int,
        shots: int,
        queries: int,
        episodes: int,
        tasks: int = 1,
        seed: int = 0,
        rank: int = 0,
        replicas: int = 1,
    ) -> None:
        check_numbers(("ways", ways, 2), ("shots", shots, 1), ("queries", queries, 1), ("episodes", episodes, 1), ("tasks", tasks, 1))
        if not 0 <= rank < replicas:
            raise ConfigError(f"rank must be one of 0..{replicas - 1}, as there are {replicas} replicas, got {rank}")
        labels = _labels(data)
        self._rows = np.flatnonzero(labels >= 0)
        pool = pool_of(labels[self._rows])
        check_classes(pool, ways)
        check_images(pool, shots, queries, getattr(data, "classes", None) or getattr(data, "class_names", None))
        self.shape = EpisodeShape(ways, shots, queries, tasks)
        self._order = EpisodeOrder(labels[self._rows], self.shape, episodes, seed)
        self.episodes, self.seed, self.epoch, self.rank, self.replicas = episodes, seed, 0, rank, replicas

    def __len__(self) -> int:
        return len(range(self.rank, self.episodes, self.replicas))

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._order(self.epoch)[self.rank :: self.replicas].numpy():
            yield self._rows[batch].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's episodes come next."""
        self.epoch = epoch

    @property
    def sampler(self) -> EpisodeSampler:
        """Itself: where Lightning looks for whom to tell the epoch."""
        return self

    def unpack(self, batch: Tensor) -> Task:
        """Rows (B, ...) of a batch, its samples or their embeddings, as support and query, each with its ways, (T, n, ...)."""
        if len(batch) != self.shape.batch:
            raise DataError(f"a batch of these episodes has {self.shape.batch} rows, got {len(batch)}: unpack this sampler's whole batches")
        return Task(*self.shape.sets(batch))

    def collate(self, items: Sequence[Any]) -> Task:
        """The `collate_fn` of a loader: items (sample, ...) of one batch as a `Task` of samples; what else is in an item is left aside."""
        samples = [item[0] if isinstance(item, tuple | list) else item for item in items]
        return self.unpack(default_collate(samples))


def _labels(data: Any) -> np.ndarray:
    labels = whole_numbers(data)
    if labels is None:
        labels = known_labels(data) if hasattr(data, "__len__") else None
    if labels is None:
        raise ConfigError(
            f"EpisodeSampler: {type(data).__name__} does not say its labels without loading samples (no targets, labels or get_labels()): "
            "give the labels in its place, for example [y for _, y in data]"
        )
    return labels
