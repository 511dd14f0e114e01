"""Few-shot episodes as index tensors: which classes, which support and which query images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.fewshot.draws import check_classes, check_images, check_numbers, draw_classes, draw_images, pool_of

_CHUNK = 1 << 20  # draws held at once


@dataclass(frozen=True)
class Episodes:
    """E episodes over N images; every tensor is int64 on the CPU. Sampled rows of `support` and `query` come way by way.

    Ways may differ in their number of support images, and of query images, where some may have none.

    Args:
        support: image indices, (E, S); S is W*K where every way has K shots.
        support_labels: way of each, 0..W-1, (E, S); every way has at least one.
        query: image indices, (E, Q); none is also in the support set of its episode.
        query_labels: way of each, 0..W-1, (E, Q).
        classes: label of the class that plays each way, (E, W).

    Raises:
        DataError: shapes or labels that do not fit together, nothing to ask, or an image used twice in one episode.

    >>> pick = torch.tensor
    >>> episode = kinshot.Episodes(pick([[4, 9]]), pick([[0, 1]]), pick([[5, 7]]), pick([[0, 1]]), classes=pick([[3, 8]]))
    >>> episode.ways
    2
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    classes: Tensor

    def __post_init__(self) -> None:
        parts = [getattr(self, field.name) for field in fields(self)]
        if any(t.ndim != 2 or t.dtype != torch.int64 for t in parts):
            raise DataError("episodes: expected int64 matrices, got " + ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in parts))
        if self.support.shape != self.support_labels.shape or self.query.shape != self.query_labels.shape or len({*map(len, parts)}) != 1:
            raise DataError(
                f"episodes: support {tuple(self.support.shape)} with labels {tuple(self.support_labels.shape)}, "
                f"query {tuple(self.query.shape)} with labels {tuple(self.query_labels.shape)} and classes "
                f"{tuple(self.classes.shape)} do not fit together: give one row per episode and one label per image"
            )
        if not all(t.numel() for t in parts):
            raise DataError(
                f"episodes: {len(self)} episodes with {self.support.shape[1]} support and {self.query.shape[1]} query images of "
                f"{self.ways} classes: each number must be at least 1"
            )
        _check_ways(self)
        _check_disjoint(self.support, self.query)

    def __len__(self) -> int:
        return len(self.support)

    @property
    def ways(self) -> int:
        """Classes in each episode."""
        return self.classes.shape[1]

    def hash(self) -> str:
        """SHA-256 (hex) of the content: equal for equal episodes on every machine."""
        digest = hashlib.sha256(b"kinshot episodes 1")
        for field in fields(self):
            value = getattr(self, field.name).cpu().numpy()
            digest.update(f"\0{field.name}{value.shape}\0".encode())
            digest.update(np.ascontiguousarray(value, dtype="<i8").data)
        return digest.hexdigest()


def sample_episodes(
    labels: np.ndarray,
    *,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    seed: int,
    class_names: Sequence[str] | None = None,
) -> Episodes:
    """Draw episodes: `ways` classes uniformly, then `shots` + `queries` images of each uniformly, without replacement.

    Episode e depends on (seed, e, the classes and counts in `labels`) alone: 2000 episodes begin with the same 600.
    More shots extend the support sets of fewer, and the support sets do not depend on `queries`.

    Args:
        labels: class of every image, int (N,), any integers; classes may differ in count.
        ways: W, at least 2.
        shots: K support images per way.
        queries: Q query images per way.
        episodes: E.
        seed: key of every draw.
        class_names: name of class 0, 1, ..., for messages only.

    Raises:
        ConfigError: a number below its minimum.
        DataError: fewer classes than `ways`, or a class with fewer than `shots` + `queries` images.

    >>> labels = np.repeat(np.arange(10), 6)  # ten classes of six images
    >>> episodes = kinshot.sample_episodes(labels, ways=5, shots=1, queries=3, episodes=100, seed=0)
    >>> tuple(episodes.support.shape), tuple(episodes.query.shape)
    ((100, 5), (100, 15))
    """
    check_numbers(("ways", ways, 2), ("shots", shots, 1), ("queries", queries, 1), ("episodes", episodes, 1))
    pool = pool_of(labels)
    check_classes(pool, ways)
    check_images(pool, shots, queries, class_names)
    slots, images = [], []
    for index in chunks_of(episodes, ways * (shots + queries)):
        slots.append(draw_classes(index, pool, ways, seed))
        images.append(draw_images(index, pool, slots[-1], shots + queries, seed))
    return balanced(pool.classes[np.concatenate(slots)], np.concatenate(images), shots)


def chunks_of(episodes: int, draws: int) -> list[np.ndarray]:
    """Episode numbers 0..episodes-1 in parts that need bounded memory, at `draws` draws each."""
    chunk = max(1, _CHUNK // draws)
    return [np.arange(first, min(first + chunk, episodes)) for first in range(0, episodes, chunk)]


def balanced(classes: np.ndarray, images: np.ndarray, shots: int) -> Episodes:
    """Episodes of classes (E, W) and their images (E, W, K+Q), of which the first K are the support."""
    episodes, ways, per_way = images.shape
    drawn, way = torch.from_numpy(images), torch.arange(ways)
    return Episodes(
        support=drawn[:, :, :shots].flatten(1),
        support_labels=way.repeat_interleave(shots).repeat(episodes, 1),
        query=drawn[:, :, shots:].flatten(1),
        query_labels=way.repeat_interleave(per_way - shots).repeat(episodes, 1),
        classes=torch.from_numpy(classes),
    )


def unbalanced(classes: np.ndarray, images: np.ndarray, shots: np.ndarray, queries: np.ndarray) -> Episodes:
    """Episodes of classes (E, W) and their images (E, W, P): the first shots[e, w] are support, the next queries[e, w] query.

    Every episode must have the same number of support images in all, and of query images.
    """
    place = np.arange(images.shape[2])
    support = place < shots[:, :, None]
    query = ~support & (place < (shots + queries)[:, :, None])
    way = np.broadcast_to(np.arange(images.shape[1])[:, None], images.shape)
    parts = [values[chosen].reshape(len(images), -1) for chosen in (support, query) for values in (images, way)]
    return Episodes(*map(torch.from_numpy, [*parts, classes]))


def support_sizes(episodes: Episodes) -> Tensor:
    """Support images of every way: int64 (E, W)."""
    return torch.zeros_like(episodes.classes).scatter_add_(1, episodes.support_labels, torch.ones_like(episodes.support_labels))


def check_labels(episodes: Episodes, labels: np.ndarray) -> None:
    """Whether episodes belong to this data: every index an image, and every image of the class that its way plays.

    Raises:
        DataError: naming the first episode that does not fit, and the image.
    """
    labels = np.asarray(labels)
    for part in ("support", "query"):
        index, ways = (getattr(episodes, name).numpy() for name in (part, f"{part}_labels"))
        outside = (index < 0) | (index >= len(labels))
        if outside.any():
            e, i = np.argwhere(outside)[0]
            raise DataError(
                f"episode {e} has the {part} image {index[e, i]}, the data has images 0..{len(labels) - 1}: use the data it was made for"
            )
        expected = np.take_along_axis(episodes.classes.numpy(), ways, axis=1)
        wrong = labels[index] != expected
        if wrong.any():
            e, i = np.argwhere(wrong)[0]
            raise DataError(
                f"episode {e} takes the {part} image {index[e, i]} for class {expected[e, i]}, the data says class "
                f"{labels[index[e, i]]}: use the data it was made for"
            )


def _check_ways(episodes: Episodes) -> None:
    for part in (episodes.support_labels, episodes.query_labels):
        outside = ((part < 0) | (part >= episodes.ways)).any(1)
        if bool(outside.any()):
            e = int(outside.nonzero()[0])
            raise DataError(
                f"episode {e} has ways {int(part[e].min())}..{int(part[e].max())}, its {episodes.ways} classes are 0..{episodes.ways - 1}"
            )
    sizes = support_sizes(episodes)
    if not bool(sizes.all()):
        e, way = (int(x) for x in (sizes == 0).nonzero()[0])
        raise DataError(f"episode {e} has no support image of way {way}: every class needs at least one")


def _check_disjoint(support: Tensor, query: Tensor) -> None:
    ordered = np.sort(torch.cat([support, query], dim=1).numpy(), axis=1)  # numpy sorts short rows ten times as fast as torch
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    if repeated.any():
        episode = int(np.flatnonzero(repeated)[0])
        raise DataError(f"episode {episode} uses an image twice: support and query must be disjoint, or the accuracy is meaningless")
