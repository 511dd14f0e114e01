"""Accuracy of a head on cached features, episode by episode, and the rows of a report."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.episodes import Episodes
from kinshot.fewshot.statistics import interval

Head = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(support (E, S, D), labels (E, S), query (E, Q, D), ways) -> scores (E, Q, ways), settings already bound."""

_CHUNK_BYTES = 4 << 20  # gathered features of one chunk: small enough for the processor's cache, large enough to batch


@dataclass(frozen=True)
class Row:
    """One line of a report: which features, head and episodes, and the accuracy in [0, 1] with its interval.

    Args:
        features: name of the features, for example `backbone` or `pixels`.
        head: the head as it was written.
        ways: classes per episode.
        shots: support images per class.
        queries: query images per class.
        episodes: number of episodes.
        seed: key of the episodes.
        mean: mean accuracy over episodes.
        ci95: half-width of the 95 % interval.
        rule: how the interval was made.
        settings: every setting of the head, defaults included.
        seconds: time taken by the evaluation, None when not measured.
    """

    features: str
    head: str
    ways: int
    shots: int
    queries: int
    episodes: int
    seed: int
    mean: float
    ci95: float
    rule: str
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def make_row(
    accuracy: np.ndarray,
    *,
    features: str,
    head: str,
    ways: int,
    shots: int,
    queries: int,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    seconds: float | None = None,
) -> Row:
    """A `Row` from per-episode accuracies. Raises DataError for fewer than two episodes."""
    found = interval(accuracy)
    return Row(
        features, head, ways, shots, queries, found.count, seed, found.mean, found.half_width, found.rule, dict(settings or {}), seconds
    )


def build_head(name: str, settings: Mapping[str, Any] | None = None, *, base_mean: Tensor | None = None) -> Head:
    """A registered head with its settings bound; `base_mean` (D,) goes to the heads that take one.

    Raises:
        ConfigError: unknown head, unknown setting or bad value.
    """
    checked, problems = HEADS.check(name, dict(settings or {}))
    if problems:
        raise ConfigError("; ".join(problems))
    function = HEADS.get(name)
    if "base_mean" in inspect.signature(function).parameters:
        return partial(function, **checked, base_mean=base_mean)
    return partial(function, **checked)


def episode_accuracy(
    features: Tensor, episodes: Episodes, head: Head, ways: int, *, batch: int | None = None, threads: int | None = None
) -> np.ndarray:
    """Share of query images that the head puts into their class, for each episode: float64 (E,), in [0, 1].

    Args:
        features: (N, D) float, one row per image, on any device.
        episodes: index tensors into those rows.
        head: see `Head`; `build_head` makes one.
        ways: classes per episode.
        batch: episodes handed to the head at once; None fits their features into a few MiB.
        threads: torch threads during the evaluation; None leaves them. One is often fastest for small heads.

    Raises:
        DataError: features of the wrong shape or not finite, indices outside them, or scores that are NaN.
        ConfigError: `batch` or `threads` below 1, or `ways` that the episodes do not have.
    """
    _check(features, episodes, ways, batch, threads)
    images = episodes.support.shape[1] + episodes.query.shape[1]
    batch = batch or max(1, _CHUNK_BYTES // (images * features.shape[1] * features.element_size()))
    chunks = []
    with torch.no_grad(), _torch_threads(threads):
        for first in range(0, len(episodes), batch):
            rows = slice(first, first + batch)
            support, labels, query, targets = (
                t[rows].to(features.device) for t in (episodes.support, episodes.support_labels, episodes.query, episodes.query_labels)
            )
            scores = head(_gather(features, support), labels, _gather(features, query), ways)
            if bool(torch.isnan(scores).any()):
                raise DataError(f"the head gave NaN scores in episodes {first} to {first + len(support) - 1}: change its settings")
            chunks.append((scores.argmax(-1) == targets).double().mean(1).cpu())
    return torch.cat(chunks).numpy()


def _gather(features: Tensor, index: Tensor) -> Tensor:
    """Rows (E, n) of (N, D) as (E, n, D)."""
    return features.index_select(0, index.flatten()).view(*index.shape, -1)


def _check(features: Tensor, episodes: Episodes, ways: int, batch: int | None, threads: int | None) -> None:
    for name, value in (("batch", batch), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if ways != episodes.ways:
        raise ConfigError(f"the episodes are {episodes.ways}-way, the evaluation was asked for {ways} ways: pass the same number")
    if features.ndim != 2 or not features.is_floating_point():
        raise DataError(f"features must be float (N, D), got {features.dtype} {tuple(features.shape)}")
    if not bool(torch.isfinite(features).all()):
        row = int((~torch.isfinite(features)).any(1).nonzero()[0])
        raise DataError(f"the features of image {row} are not finite: check the encoder's weights and the image")
    low = min(int(episodes.support.min()), int(episodes.query.min()))
    high = max(int(episodes.support.max()), int(episodes.query.max()))
    if low < 0 or high >= len(features):
        raise DataError(f"the episodes use images {low}..{high}, the features have rows 0..{len(features) - 1}: sample from these labels")


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Set torch's intra-operation threads for a while."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before)
