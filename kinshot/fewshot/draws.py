"""Draws that every kind of episode is made of: classes, then images of each, without replacement and without rejection.

Everything depends on (seed, episode number) alone, so that kinds of episodes with the same seed share classes and support sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinshot.core.draws import distinct
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_uniform


@dataclass(frozen=True)
class Pool:
    """Images by class.

    Args:
        classes: the labels that occur, ascending, (C,).
        counts: images of each class, (C,).
        starts: where each class begins in `order`, (C,).
        order: image indices, class by class, (N,).
    """

    classes: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    order: np.ndarray


def pool_of(labels: np.ndarray) -> Pool:
    """The images of every class. Raises DataError unless `labels` is one integer per image."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"episodes need one integer label per image, got {labels.dtype} of shape {labels.shape}")
    classes, counts = np.unique(labels, return_counts=True)
    return Pool(classes.astype(np.int64), counts, np.cumsum(counts) - counts, np.argsort(labels, kind="stable"))


def draw_classes(index: np.ndarray, pool: Pool, ways: int, seed: int) -> np.ndarray:
    """Different classes for the episodes numbered `index`, uniformly: positions in `pool.classes`, (e, W)."""
    return distinct(keyed_uniform(seed, "episode classes", 0, index, ways), np.full(len(index), len(pool.counts)))


def draw_images(index: np.ndarray, pool: Pool, slots: np.ndarray, needed: int | np.ndarray, seed: int) -> np.ndarray:
    """Different images of each drawn class, in random order: (e, W, P).

    Args:
        index: numbers of the episodes, (e,).
        pool: images by class.
        slots: classes of each episode, (e, W).
        needed: images wanted of each, P, or (e, W) of which P is the largest; what lies behind a row's number means nothing.
        seed: key of the draws.
    """
    episodes, ways = slots.shape
    per_way = int(np.max(needed))
    uniform = keyed_uniform(seed, "episode images", 0, index, per_way * ways)
    # draw number i * ways + w belongs to image i of way w, so that more images per way leave the earlier ones alone
    uniform = uniform.reshape(episodes, per_way, ways).swapaxes(1, 2).reshape(-1, per_way)
    sizes = pool.counts[slots.ravel()]
    if isinstance(needed, int):
        rank = distinct(uniform, sizes)
    else:
        most_first = np.argsort(-needed.ravel(), kind="stable")
        rank = np.empty(uniform.shape, dtype=np.int32)
        rank[most_first] = distinct(uniform[most_first], sizes[most_first], needed.ravel()[most_first])
    return pool.order[pool.starts[slots][:, :, None] + rank.reshape(episodes, ways, per_way)]


def check_numbers(*checks: tuple[str, int, int]) -> None:
    """Raise ConfigError for the first (name, value, least) whose value is below its least."""
    for name, value, least in checks:
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")


def check_classes(pool: Pool, ways: int) -> None:
    """Raise DataError where there are fewer classes than ways."""
    if len(pool.classes) < ways:
        raise DataError(f"{ways}-way episodes need {ways} classes, got {len(pool.classes)}: lower ways or use a split with more classes")


def check_images(pool: Pool, shots: int, queries: int, class_names: Sequence[str] | None) -> None:
    """Raise DataError naming the first class with fewer than `shots` + `queries` images."""
    short = np.flatnonzero(pool.counts < shots + queries)
    if not len(short):
        return
    label, count = int(pool.classes[short[0]]), int(pool.counts[short[0]])
    named = f" ({class_names[label]!r})" if class_names is not None and 0 <= label < len(class_names) else ""
    smallest = int(pool.counts.min())
    advice = f"lower queries to at most {smallest - shots}" if smallest > shots else "lower shots and queries"
    more = f", and {len(short) - 1} more classes have too few" if len(short) > 1 else ""
    raise DataError(
        f"class {label}{named} has {count} images, an episode needs {shots + queries} ({shots} shots + {queries} queries)"
        f"{more}: {advice}, or leave such classes out of the split"
    )
