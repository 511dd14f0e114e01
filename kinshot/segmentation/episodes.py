"""Dense episodes: which images show each way, and which are to be segmented; drawn from (seed, number) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from kinshot.core.draws import distinct
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_uniform

_CHUNK = 1 << 14  # episodes held at once
_DRAWS, _CLASS_DRAWS = 16, 8  # of images for one draw of classes, and of classes


@dataclass(frozen=True)
class DenseEpisodes:
    """E episodes of W ways, K shots and Q queries as sample indices.

    Args:
        classes: int64 (E, W), the value that each way's class has in class maps, that is its number among the class names plus 1.
        support: int64 (E, W, K), images that contain the way's class.
        query: int64 (E, Q), images that contain the class of at least one way, of other photographs than all of the support.
        target: int64 (E, Q), the way that each query was drawn for.

    Raises:
        DataError: arrays that are no whole numbers, whose shapes do not fit together, or that hold nothing.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray
    target: np.ndarray

    def __post_init__(self) -> None:
        shapes = {field.name: getattr(self, field.name).shape for field in fields(self)}
        whole = all(getattr(self, name).dtype == np.int64 for name in shapes)
        ranks = tuple(len(shape) for shape in shapes.values())
        if not whole or ranks != (2, 3, 2, 2) or shapes["support"][:2] != shapes["classes"] or shapes["query"] != shapes["target"]:
            raise DataError(f"dense episodes are int64 arrays (E, W), (E, W, K), (E, Q), (E, Q), got {shapes}: give one row to an episode")
        if len(self.classes) != len(self.query) or min(self.ways, self.shots, self.queries) < 1:
            raise DataError(f"dense episodes need one way, shot and query at least, in equal number of rows, got {shapes}")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def ways(self) -> int:
        """W."""
        return self.classes.shape[1]

    @property
    def shots(self) -> int:
        """K."""
        return self.support.shape[2]

    @property
    def queries(self) -> int:
        """Q."""
        return self.query.shape[1]

    def __getitem__(self, rows: slice | np.ndarray) -> DenseEpisodes:
        """Some of the episodes."""
        return DenseEpisodes(self.classes[rows], self.support[rows], self.query[rows], self.target[rows])

    def hash(self) -> str:
        """SHA-256 (hex) of the content: equal for equal episodes on every machine."""
        digest = hashlib.sha256(b"kinshot dense episodes 1")
        for field in fields(self):
            value = getattr(self, field.name)
            digest.update(f"\0{field.name}{value.shape}\0".encode())
            digest.update(np.ascontiguousarray(value, dtype="<i8").data)
        return digest.hexdigest()


def sample_dense_episodes(
    contains: np.ndarray, photos: np.ndarray, *, ways: int, shots: int, queries: int, episodes: int, seed: int,
    class_names: Sequence[str] = (), first: int = 0, short_classes: Literal["refuse", "leave_out"] = "refuse",
) -> DenseEpisodes:  # fmt: skip
    """Draw episodes: `ways` classes uniformly, `shots` photographs of each, and `queries` of other photographs.

    Episode e depends on (seed, first + e, the arrays and numbers given here) alone, never on how many are drawn: 2000 begin with the
    same 600. Photographs of a class are drawn uniformly, then an image of each. Ways take turns at the queries from a random one on. A
    query is of none of the support's photographs, whichever way these are of, and no two queries share one. Classes that cannot meet in
    an episode, because photographs of one hold the other, too, are drawn again together.

    Args:
        contains: bool (N, C), the classes that each image counts for.
        photos: int (N,), the photograph that each image is of.
        ways: W, at least 1.
        shots: K, support images of each way.
        queries: Q, queries of an episode, all ways together.
        episodes: E.
        seed: key of every draw.
        class_names: for messages.
        first: number of the first episode.
        short_classes: what to do about classes with too few photographs to be served: `refuse`, or `leave_out` of the draws.

    Raises:
        ConfigError: a number below its minimum.
        DataError: a class with too few photographs, fewer classes than ways, or classes whose photographs cannot be kept apart.
    """
    for name, value, least in (("ways", ways, 1), ("shots", shots, 1), ("queries", queries, 1), ("episodes", episodes, 1)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    pool = _pool(contains, photos)
    served = _served(pool, ways, shots, queries, class_names, short_classes)
    drawing = _Drawing(pool, served, ways, shots, queries, seed)
    index = np.arange(first, first + episodes)
    parts = [drawing.episodes(index[start : start + _CHUNK]) for start in range(0, episodes, _CHUNK)]
    return DenseEpisodes(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def short_of(contains: np.ndarray, photos: np.ndarray, *, ways: int, shots: int, queries: int) -> dict[int, int]:
    """The classes (columns) that no episode of this size can serve, and the photographs that they have."""
    counts = _pool(contains, photos).counts
    return {int(c): int(counts[c]) for c in np.flatnonzero(counts < _needed(ways, shots, queries))}


@dataclass(frozen=True)
class _Pool:
    """Photographs by class. Group g is the images of one photograph that count for one class; groups come class by class.

    Args:
        counts: photographs of each class, (C,).
        starts: each class's first group, (C,).
        keys: class * photographs + photograph of each group, ascending.
        first: each group's first place in `images`.
        sizes: images of each group.
        images: image indices, group by group.
        photos: how many photographs there are.
    """

    counts: np.ndarray
    starts: np.ndarray
    keys: np.ndarray
    first: np.ndarray
    sizes: np.ndarray
    images: np.ndarray
    photos: int


def _pool(contains: np.ndarray, photos: np.ndarray) -> _Pool:
    contains, photos = np.asarray(contains), np.asarray(photos)
    if contains.ndim != 2 or contains.dtype != bool or photos.shape != contains.shape[:1]:
        got = f"{contains.dtype} {contains.shape} and photographs {photos.shape}"
        raise DataError(f"dense episodes need which classes each image holds, bool (N, C), and its photograph, (N,), got {got}")
    names, number = np.unique(photos, return_inverse=True)
    image, column = np.nonzero(contains)
    key = column * len(names) + number.reshape(-1)[image]
    order = np.argsort(key, kind="stable")
    keys, first, sizes = np.unique(key[order], return_index=True, return_counts=True)
    counts = np.bincount(keys // max(len(names), 1), minlength=contains.shape[1])
    return _Pool(counts, np.cumsum(counts) - counts, keys, first, sizes, image[order], len(names))


def _needed(ways: int, shots: int, queries: int) -> int:
    return shots - -queries // ways  # the most queries that a way has are rounded up


def _served(pool: _Pool, ways: int, shots: int, queries: int, names: Sequence[str], short_classes: str) -> np.ndarray:
    """The classes that can be served, as columns."""
    needed = _needed(ways, shots, queries)
    short = np.flatnonzero(pool.counts < needed)
    if len(short) and short_classes == "refuse":
        told = ", ".join(f"{_named(int(c), names)} has {pool.counts[c]}" for c in short[:8]) + (", ..." if len(short) > 8 else "")
        raise DataError(
            f"an episode of {ways} ways needs {needed} photographs of a class ({shots} for the support, {needed - shots} for queries), "
            f"and {len(short)} of {len(pool.counts)} classes have fewer: {told}; lower shots or queries, or leave "
            "these classes out (--short-classes leave_out, in a recipe short_classes=leave_out)"
        )
    served = np.flatnonzero(pool.counts >= needed)
    if len(served) < ways:
        have = f"{len(served)} of {len(pool.counts)} classes have the {needed} photographs that one needs"
        raise DataError(f"{ways}-way episodes need {ways} classes, and {have}: lower ways or shots, or use a split with more classes")
    return served


def _named(column: int, names: Sequence[str]) -> str:
    return f"class {names[column]!r}" if column < len(names) else f"class {column}"


@dataclass(frozen=True)
class _Drawing:
    pool: _Pool
    served: np.ndarray
    ways: int
    shots: int
    queries: int
    seed: int

    def episodes(self, index: np.ndarray) -> list[np.ndarray]:
        """The four arrays for the episodes of these numbers; those whose photographs could not be kept apart are drawn again."""
        found, fits = self._draw(index, 0)
        for attempt in range(1, _DRAWS * _CLASS_DRAWS):
            again = np.flatnonzero(~fits)
            if not len(again):
                break
            redrawn, fits[again] = self._draw(index[again], attempt)
            for whole, part in zip(found, redrawn, strict=True):
                whole[again] = part
        if not fits.all():
            number = int(index[np.flatnonzero(~fits)[0]])
            raise DataError(
                f"episode {number}: {_DRAWS * _CLASS_DRAWS} draws of {self.ways} classes found no photographs for the queries that are not "
                "in the support, because the classes are seen together: lower ways, shots or queries"
            )
        return found

    def _draw(self, index: np.ndarray, attempt: int) -> tuple[list[np.ndarray], np.ndarray]:
        pool, (e, w, k, q) = self.pool, (len(index), self.ways, self.shots, self.queries)
        slots = distinct(self._uniform("classes", attempt // _DRAWS, index, w), np.full(e, len(self.served)))
        classes = self.served[slots]
        # number k * W + w belongs to shot k of way w, so that more shots leave the earlier ones alone
        draws = self._uniform("support", attempt, index, 2 * k * w).reshape(e, k, w, 2).swapaxes(1, 2)
        ranks = distinct(draws[..., 0].reshape(e * w, k), pool.counts[classes.ravel()]).reshape(e, w, k)
        groups = pool.starts[classes][:, :, None] + ranks
        start = (self._uniform("turns", attempt, index, 1) * w).astype(np.int64)
        target = (start + np.arange(q)) % w
        asked, fits = self._queries(np.take_along_axis(classes, target, axis=1), groups, self._uniform("query", attempt, index, 2 * q))
        return [classes + 1, self._pick(groups, draws[..., 1]), asked, target], fits

    def _queries(self, classes: np.ndarray, support: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images of the classes (e, Q) of photographs that neither the support's groups nor an earlier query show, and where there are."""
        pool, e = self.pool, len(classes)
        taken = pool.keys[support.reshape(e, -1)] % pool.photos
        found, fits = np.zeros(classes.shape, dtype=np.int64), np.ones(e, dtype=bool)
        for q in range(self.queries):
            own = classes[:, q]
            ranks = self._ranks(own, taken)
            excluded = (ranks < pool.counts[own][:, None]).sum(axis=1)
            left = pool.counts[own] - excluded
            fits &= left > 0
            rank = np.minimum((draws[:, 2 * q] * left.astype(np.float64)).astype(np.int64), np.maximum(left - 1, 0))
            # the photograph of that rank lies above every excluded one s_j (ascending) with s_j - j <= rank
            rank += np.count_nonzero(ranks - np.arange(ranks.shape[1]) <= rank[:, None], axis=1)
            groups = pool.starts[own] + np.minimum(rank, pool.counts[own] - 1)
            found[:, q] = self._pick(groups, draws[:, 2 * q + 1])
            taken = np.concatenate([taken, pool.keys[groups][:, None] % pool.photos], axis=1)
        return found, fits

    def _ranks(self, classes: np.ndarray, photos: np.ndarray) -> np.ndarray:
        """Where photographs (e, n) stand among those of a class (e,): ascending, each once; a number beyond all for the others."""
        pool, none = self.pool, np.iinfo(np.int64).max // 2
        keys = classes[:, None] * pool.photos + photos
        place = np.searchsorted(pool.keys, keys)
        known = pool.keys[np.minimum(place, len(pool.keys) - 1)] == keys
        ranks = np.sort(np.where(known, place - pool.starts[classes][:, None], none), axis=1)
        ranks[:, 1:][ranks[:, 1:] == ranks[:, :-1]] = none
        return np.sort(ranks, axis=1)

    def _pick(self, groups: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """An image of each group."""
        sizes = self.pool.sizes[groups]
        return self.pool.images[self.pool.first[groups] + (uniform * sizes.astype(np.float64)).astype(np.int64)]

    def _uniform(self, purpose: str, attempt: int, index: np.ndarray, draws: int) -> np.ndarray:
        return keyed_uniform(self.seed, f"dense episodes: {purpose}", attempt, index, draws)
