"""Base and novel classes in one label space: who is drawn, what is held out, and the few numbers of each answer that all measures need.

Scores of many images by many classes are never kept: an image's best base score, its best novel score and whether its own class is best
among its kind decide every joint measure, for every offset between base and novel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_uniform
from kinshot.fewshot.draws import check_classes, check_images, check_numbers, draw_classes, draw_images, pool_of
from kinshot.fewshot.episodes import chunks_of
from kinshot.fewshot.generalized import Generalized, Sweep, calibration_sweep, generalized_accuracy

KEPT, VALIDATION, TEST = 0, 1, 2
"""What `hold_out` says of an image."""
_CHUNK = 4096
Score = Callable[[Tensor, Tensor], Tensor]
"""(features (N, D), class rows (C, D)) -> scores (N, C), larger is closer."""


@dataclass(frozen=True)
class NovelDraw:
    """One draw of the few labelled images of novel classes.

    Args:
        exemplars: images of each class, in random order, (W, R): the first n of a row are its n shots.
        query: every image of these classes that is no exemplar, (Q,).
        query_ways: row of `exemplars` that each belongs to, (Q,).
    """

    exemplars: np.ndarray
    query: np.ndarray
    query_ways: np.ndarray

    def support(self, shots: int) -> tuple[np.ndarray, Tensor]:
        """Images of the first `shots` exemplars of every class, (W * shots,), and the way of each."""
        return self.exemplars[:, :shots].ravel(), torch.arange(len(self.exemplars)).repeat_interleave(shots)


def novel_draws(
    labels: np.ndarray, *, ways: int, most: int, draws: int, seed: int, class_names: Sequence[str] | None = None
) -> list[NovelDraw]:
    """Keyed draws of exemplars, with test images that are the same for every number of shots up to `most`.

    Args:
        labels: class of every image, int (N,).
        ways: novel classes in a draw, at least 1; 0 is all of them, in ascending order of their labels.
        most: R, the largest number of shots; every class needs one image more.
        draws: number of draws, at least 1.
        seed: key of the draws.
        class_names: name of class 0, 1, ..., for messages only.

    Raises:
        ConfigError: a number below its minimum.
        DataError: too few classes, or a class with too few images.
    """
    check_numbers(("ways", ways, 0), ("shots", most, 1), ("draws", draws, 1))
    pool = pool_of(labels)
    count = ways or len(pool.classes)
    check_classes(pool, count)
    check_images(pool, most, 1, class_names)
    found = []
    for index in chunks_of(draws, count * most):
        everyone = np.broadcast_to(np.arange(count), (len(index), count))
        slots = draw_classes(index, pool, count, seed) if ways else everyone
        images = draw_images(index, pool, slots, most, seed)
        found += [_draw(np.asarray(labels), pool.classes[chosen], drawn) for chosen, drawn in zip(slots, images, strict=True)]
    return found


def _draw(labels: np.ndarray, classes: np.ndarray, exemplars: np.ndarray) -> NovelDraw:
    asked = np.isin(labels, classes)
    asked[exemplars.ravel()] = False
    query = np.flatnonzero(asked)
    ascending = np.argsort(classes)
    return NovelDraw(exemplars, query, ascending[np.searchsorted(classes[ascending], labels[query])])


def hold_out(labels: np.ndarray, *, test: float, validation: float, seed: int) -> np.ndarray:
    """Which images of every class are kept, for validation, or for testing: `KEPT`, `VALIDATION` or `TEST`, int8 (N,).

    A share above 0 takes at least one image of every class, and one at least is kept. A larger test share takes more of the same images.

    Args:
        labels: class of every image, int (N,).
        test: share of each class's images, in [0, 1).
        validation: the same.
        seed: key of the choice.

    Raises:
        ConfigError: shares that leave nothing.
        DataError: a class with too few images.
    """
    if min(test, validation) < 0 or test + validation >= 1:
        raise ConfigError(f"the held-out shares must be at least 0 and their sum below 1, got {test} and {validation}")
    pool = pool_of(labels)
    asked, chosen = (_share(pool.counts, share) for share in (test, validation))
    short = np.flatnonzero(asked + chosen >= pool.counts)
    if len(short):
        count = int(pool.counts[short[0]])
        raise DataError(
            f"class {int(pool.classes[short[0]])} has {count} images, holding some out needs {int((asked + chosen)[short[0]]) + 1} "
            f"({len(short)} such classes): name images to test on instead (--base-test), or leave such classes out"
        )
    order = np.lexsort((keyed_uniform(seed, "hold out", 0, np.arange(len(labels)), 1)[:, 0], labels))
    place = np.arange(len(labels)) - np.repeat(pool.starts, pool.counts)
    tested, validated = (np.repeat(counts, pool.counts) for counts in (asked, asked + chosen))
    parts = np.empty(len(labels), dtype=np.int8)
    parts[order] = np.where(place < tested, TEST, np.where(place < validated, VALIDATION, KEPT))
    return parts


def _share(counts: np.ndarray, share: float) -> np.ndarray:
    return np.maximum(1, np.rint(share * counts).astype(np.int64)) if share > 0 else np.zeros_like(counts)


@dataclass(frozen=True)
class Best:
    """Of images against some classes: the best score (N,), and the column that has it (N,), the lowest of equal ones."""

    score: np.ndarray
    column: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Best:
        """The same of some images."""
        return Best(self.score[rows], self.column[rows])


def best_of(features: Tensor, rows: Tensor, score: Score) -> Best:
    """The best class of every image, a few thousand images at a time. Raises DataError for scores that are not finite."""
    found = [score(part, rows).max(dim=1) for part in features.split(_CHUNK)]
    value = torch.cat([f.values for f in found]).double().cpu().numpy()
    if not np.isfinite(value).all():
        raise DataError(f"the scores of image {int(np.flatnonzero(~np.isfinite(value))[0])} are not finite: check the features")
    return Best(value, torch.cat([f.indices for f in found]).cpu().numpy())


@dataclass(frozen=True)
class Answers:
    """What decides the joint measures of N images, of base and of novel classes.

    Args:
        base: best base score, (N,).
        novel: best novel score, (N,).
        hit: whether the image's own class is best among its kind, bool (N,).
        is_base: whether the image is of a base class, bool (N,).
    """

    base: np.ndarray
    novel: np.ndarray
    hit: np.ndarray
    is_base: np.ndarray

    def accuracy(self, offset: float = 0.0) -> Generalized:
        """`generalized_accuracy` of the whole scores, every image counting once."""
        return generalized_accuracy(*self._columns(), offset=offset)

    def sweep(self) -> Sweep:
        """`calibration_sweep` of the whole scores, every image counting once."""
        return calibration_sweep(*self._columns())

    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # two columns of a kind say it all: its best class, and one that never wins, which is that of images that miss
        scores = np.stack([self.base, self.base - 1, self.novel, self.novel - 1], axis=1)
        labels = np.where(self.is_base, 0, 2) + ~self.hit
        return scores, labels, np.array([True, True, False, False])


def answers(base_images: tuple[Best, Best, np.ndarray], novel_images: tuple[Best, Best, np.ndarray]) -> Answers:
    """Answers of images of base classes followed by images of novel classes.

    Args:
        base_images: their best among base classes, their best among novel classes, and their base column, (B,).
        novel_images: the same, with their novel column, (Q,).
    """
    (own, foreign, label), (other, kin, way) = base_images, novel_images
    return Answers(
        np.concatenate([own.score, other.score]),
        np.concatenate([foreign.score, kin.score]),
        np.concatenate([own.column == label, kin.column == way]),
        np.repeat([True, False], [len(label), len(way)]),
    )


def mean_sweep(sweeps: Sequence[Sweep]) -> Sweep:
    """Mean accuracies of several sweeps at every offset; its `best` is the offset that suits them together.

    Raises DataError without sweeps.
    """
    if not sweeps:
        raise DataError("the mean of no sweeps: draw at least once")
    points = np.unique(np.concatenate([sweep.break_points for sweep in sweeps]))
    # entry k of a sweep holds between its break points k - 1 and k; entry j of the mean lies behind point j - 1
    before = np.append(-np.inf, points)
    places = [np.searchsorted(sweep.break_points, before, side="right") for sweep in sweeps]
    base, novel = (
        np.mean([getattr(sweep, kind)[place] for sweep, place in zip(sweeps, places, strict=True)], axis=0) for kind in ("base", "novel")
    )
    return Sweep(points, base, novel)
