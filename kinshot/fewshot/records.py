"""What a head said in every episode: one pass, from which accuracies, confusions and calibration are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot.episodes import Episodes
from kinshot.fewshot.groups import EpisodeGroups
from kinshot.fewshot.scores import BoundHead, confidence

Head = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(support (E, S, D), labels (E, S), query (E, Q, D), ways) -> scores (E, Q, ways), settings already bound."""

_CHUNK_BYTES = 4 << 20  # gathered features of one chunk: small enough for the processor's cache, large enough to batch


@dataclass(frozen=True)
class Records:
    """Answers of one head on one list of episodes.

    Args:
        episodes: what was asked.
        predictions: the way that each query was put into, int64 (E, Q).
        confidences: probability of the predicted way by the head's own account, float64 (E, Q); None where its scores
            are only similarities, or the head does not say what they are (`kinshot.fewshot.scores`).
    """

    episodes: Episodes
    predictions: np.ndarray
    confidences: np.ndarray | None

    @property
    def correct(self) -> np.ndarray:
        """Whether each query was put into its class: bool (E, Q)."""
        return self.predictions == self.episodes.query_labels.numpy()

    @property
    def accuracy(self) -> np.ndarray:
        """Share of queries put into their class, for each episode: float64 (E,)."""
        return self.correct.mean(axis=1)


def episode_records(
    features: Tensor, episodes: Episodes, head: Head, ways: int, *, batch: int | None = None, threads: int | None = None
) -> Records:
    """What the head answers in every episode.

    Args:
        features: (N, D) float, one row per image, on any device.
        episodes: index tensors into those rows.
        head: see `Head`; `build_head` makes one.
        ways: classes per episode.
        batch: episodes handed to the head at once; None fits their features into a few MiB.
        threads: torch threads during the evaluation; None leaves them. One is often fastest for small heads.

    Raises:
        DataError: features of the wrong shape or not finite, indices outside them, or scores of the wrong shape or NaN.
        ConfigError: `batch` or `threads` below 1, or `ways` that the episodes do not have.
    """
    _check(features, episodes, ways, batch, threads)
    images = episodes.support.shape[1] + episodes.query.shape[1]
    batch = batch or max(1, _CHUNK_BYTES // (images * features.shape[1] * features.element_size()))
    predictions, confidences = [], []
    kind = head.scores if isinstance(head, BoundHead) else "similarities"
    with torch.no_grad(), torch_threads(threads):
        for first in range(0, len(episodes), batch):
            rows = slice(first, first + batch)
            support, labels, query = (
                t[rows].to(features.device) for t in (episodes.support, episodes.support_labels, episodes.query)
            )  # fmt: skip
            scores = head(_gather(features, support), labels, _gather(features, query), ways)
            _check_scores(scores, (*query.shape, ways), first)
            predictions.append(scores.max(-1).indices.cpu())
            sure = confidence(scores, kind)
            confidences += [] if sure is None else [sure.cpu()]
    return Records(episodes, torch.cat(predictions).numpy(), torch.cat(confidences).numpy() if confidences else None)


def group_records(
    features: Tensor, groups: EpisodeGroups, head: Head, *, batch: int | None = None, threads: int | None = None
) -> list[Records]:
    """`episode_records` of every group; `groups.in_order([r.accuracy for r in records])` puts figures in the episodes' order."""
    return [episode_records(features, group, head, group.ways, batch=batch, threads=threads) for group in groups.groups]


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy by class, over all its queries in all episodes.

    Args:
        classes: labels of the classes that were asked for, ascending, (C,).
        accuracy: share of the class's queries that were put into it, (C,).
        counts: number of its queries, (C,).
    """

    classes: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


def class_accuracy(*records: Records) -> ClassAccuracy:
    """Accuracy and number of queries of every class. Raises DataError without records."""
    true, predicted = _answers(records)
    classes, where, counts = np.unique(true, return_inverse=True, return_counts=True)
    return ClassAccuracy(classes, np.bincount(where, weights=true == predicted, minlength=len(classes)) / counts, counts)


def confusion_matrix(*records: Records) -> tuple[np.ndarray, np.ndarray]:
    """How often queries of one class were put into another, over all episodes.

    Two classes can only be confused in an episode that has both: with few ways, 0 may mean that they never met.

    Returns:
        Labels of the classes that played in any episode, ascending (C,), and counts int64 (C, C): rows are true classes,
        columns are predictions.

    Raises:
        DataError: no records.
    """
    true, predicted = _answers(records)
    classes = np.unique(np.concatenate([r.episodes.classes.numpy().ravel() for r in records]))
    cell = np.searchsorted(classes, true) * len(classes) + np.searchsorted(classes, predicted)
    return classes, np.bincount(cell, minlength=len(classes) ** 2).reshape(len(classes), len(classes))


def _answers(records: tuple[Records, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Class of every query and class that it was put into."""
    if not records:
        raise DataError("no records: evaluate some episodes first")
    pairs = []
    for r in records:
        classes = r.episodes.classes.numpy()
        pairs.append([np.take_along_axis(classes, ways, axis=1).ravel() for ways in (r.episodes.query_labels.numpy(), r.predictions)])
    true, predicted = zip(*pairs, strict=True)
    return np.concatenate(true), np.concatenate(predicted)


def _gather(features: Tensor, index: Tensor) -> Tensor:
    """Rows (E, n) of (N, D) as (E, n, D)."""
    return features.index_select(0, index.flatten()).view(*index.shape, -1)


def _check_scores(scores: Tensor, shape: tuple[int, ...], first: int) -> None:
    if scores.shape != shape:
        raise DataError(f"the head gave scores of shape {tuple(scores.shape)}, expected {shape} (episodes, queries, ways)")
    if bool(torch.isnan(scores).any()):
        raise DataError(f"the head gave NaN scores in episodes {first} to {first + len(scores) - 1}: change its settings")


def _check(features: Tensor, episodes: Episodes, ways: int, batch: int | None, threads: int | None) -> None:
    for name, value in (("batch", batch), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if ways != episodes.ways:
        raise ConfigError(f"the episodes are {episodes.ways}-way, the evaluation was asked for {ways} ways: pass the same number")
    if features.ndim != 2 or not features.is_floating_point():
        raise DataError(f"features must be float (N, D), got {features.dtype} {tuple(features.shape)}")
    # a sum is finite only if every term is, and needs no mask as large as the features; a sum may also overflow
    if not bool(torch.isfinite(features.sum())) and not bool(torch.isfinite(features).all()):
        row = int((~torch.isfinite(features)).any(1).nonzero()[0])
        raise DataError(f"the features of image {row} are not finite: check the encoder's weights and the image")
    low = min(int(episodes.support.min()), int(episodes.query.min()))
    high = max(int(episodes.support.max()), int(episodes.query.max()))
    if low < 0 or high >= len(features):
        raise DataError(f"the episodes use images {low}..{high}, the features have rows 0..{len(features) - 1}: sample from these labels")


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Set torch's intra-operation threads for a while; None leaves them."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before)
