"""Low-shot probe: a classifier of all classes trained on a few labelled images of each, on frozen features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.fewshot.draws import Pool, check_classes, check_images, check_numbers, pool_of
from kinshot.fewshot.episodes import Episodes
from kinshot.fewshot.evaluate import build_head
from kinshot.fewshot.protocols import all_way_episodes, all_way_images
from kinshot.fewshot.records import Head, episode_records


@dataclass(frozen=True)
class LowShot:
    """Result of one number of labelled images per class.

    Args:
        shots: labelled images of each class.
        accuracy: share of right answers in each draw of the labelled images, (draws,); `statistics.means.crossed` makes its interval.
        class_mean: mean over classes of each draw's accuracy by class, (draws,).
        tested: images that each draw was tested on.
    """

    shots: int
    accuracy: np.ndarray
    class_mean: np.ndarray
    tested: int


def low_shot_probe(
    features: Tensor,
    labels: np.ndarray,
    *,
    shots: Sequence[int] = (1, 2, 5, 10),
    draws: int = 5,
    seed: int = 0,
    test: tuple[Tensor, np.ndarray] | None = None,
    head: Head | None = None,
    done: Callable[[float], None] = lambda amount: None,
) -> list[LowShot]:
    """Accuracy over all classes against the number of labelled images per class, for several seeded draws of these images.

    More labelled images extend the draws of fewer. Without `test`, each draw is tested on every image that it leaves out;
    the test set then shrinks as `shots` grows.

    Args:
        features: (N, D) float, one row per image.
        labels: class of every image, int (N,).
        shots: numbers of labelled images per class.
        draws: draws of the labelled images for each number, at least 1.
        seed: key of the draws.
        test: features (M, D) and labels (M,) of other images to test on, of the same classes.
        done: is told what was finished, in labelled images of each class, so that a wait can be estimated.
        head: classifier; None is logistic regression (scikit-learn, L2 penalty with C=1, unit-length features).

    Raises:
        ConfigError: no numbers of shots, or a number below 1.
        DataError: fewer than two classes, a class with too few images, test images of other classes, or features that do not fit.
    """
    check_numbers(*(("shots", count, 1) for count in shots), ("draws", draws, 1), ("the number of different shots", len(shots), 1))
    if features.ndim != 2 or features.shape[:1] != np.shape(labels):
        raise DataError(f"the low-shot probe needs one label per feature row, got {tuple(features.shape)} and labels {np.shape(labels)}")
    head = head or build_head("logistic")
    every = features if test is None else torch.cat([features, test[0].to(features)])
    found = []
    for count in shots:
        if test is None:
            episodes = all_way_episodes(labels, shots=count, episodes=draws, seed=seed)
        else:
            episodes = _asking(np.asarray(test[1]), pool_of(labels), count, draws, seed)
        correct = episode_records(every, episodes, head, episodes.ways).correct
        done(count * draws)
        found.append(LowShot(count, correct.mean(axis=1), _class_means(correct, episodes), correct.shape[1]))
    return found


def _asking(labels: np.ndarray, pool: Pool, shots: int, draws: int, seed: int) -> Episodes:
    """Support sets from the labelled images; every test image, counted on from the labelled ones, is a query."""
    check_classes(pool, max(2, len(pool.classes)))
    check_images(pool, shots, 0, None)
    unknown = ~np.isin(labels, pool.classes)
    if unknown.any():
        image = int(np.flatnonzero(unknown)[0])
        raise DataError(
            f"test image {image} is of class {labels[image]}, which has no labelled image ({int(unknown.sum())} of {len(labels)} such): "
            "leave these out"
        )
    ways = len(pool.classes)
    support = all_way_images(pool, shots, draws, seed).reshape(draws, -1)
    query = np.tile(len(pool.order) + np.arange(len(labels)), (draws, 1))
    way = np.tile(np.searchsorted(pool.classes, labels), (draws, 1))
    parts = support, np.tile(np.repeat(np.arange(ways), shots), (draws, 1)), query, way, np.tile(pool.classes, (draws, 1))
    return Episodes(*map(torch.from_numpy, parts))


def _class_means(correct: np.ndarray, episodes: Episodes) -> np.ndarray:
    """Mean over the tested classes of their accuracy, for each draw: (draws,)."""
    cell = (np.arange(len(correct))[:, None] * episodes.ways + episodes.query_labels.numpy()).ravel()
    cells = len(correct) * episodes.ways
    hits, counts = (np.bincount(cell, weights=v, minlength=cells).reshape(-1, episodes.ways) for v in (correct.ravel(), None))
    return (hits / np.maximum(counts, 1)).sum(axis=1) / (counts > 0).sum(axis=1)
