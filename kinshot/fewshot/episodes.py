"""Few-shot episodes as index tensors: which classes, which support and which query images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_uniform

_CHUNK = 1 << 20  # draws held at once


@dataclass(frozen=True)
class Episodes:
    """E episodes over N images; every tensor is int64. Rows of `support` and `query` come way by way.

    Args:
        support: image indices, (E, W*K).
        support_labels: way of each, 0..W-1, (E, W*K).
        query: image indices, (E, W*Q); none is also in the support set of its episode.
        query_labels: way of each, 0..W-1, (E, W*Q).
        classes: label of the class that plays each way, (E, W).

    Raises:
        DataError: shapes that do not fit together, or an image used twice in one episode.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    classes: Tensor

    def __post_init__(self) -> None:
        lengths = {len(t) for t in (self.support, self.support_labels, self.query, self.query_labels, self.classes)}
        if self.support.shape != self.support_labels.shape or self.query.shape != self.query_labels.shape or len(lengths) != 1:
            raise DataError(
                f"episodes: support {tuple(self.support.shape)} with labels {tuple(self.support_labels.shape)}, "
                f"query {tuple(self.query.shape)} with labels {tuple(self.query_labels.shape)} and classes "
                f"{tuple(self.classes.shape)} do not fit together: give one row per episode and one label per image"
            )
        _check_disjoint(self.support, self.query)

    def __len__(self) -> int:
        return len(self.support)

    @property
    def ways(self) -> int:
        """Classes in each episode."""
        return self.classes.shape[1]


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
    """
    for name, value, least in (("ways", ways, 2), ("shots", shots, 1), ("queries", queries, 1), ("episodes", episodes, 1)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"episodes need one integer label per image, got {labels.dtype} of shape {labels.shape}")
    classes, counts = np.unique(labels, return_counts=True)
    _check_feasible(classes, counts, ways, shots, queries, class_names)
    order = np.argsort(labels, kind="stable")
    starts = np.cumsum(counts) - counts
    chunk = max(1, _CHUNK // (ways * (shots + queries)))
    drawn = [
        _draw(np.arange(first, min(first + chunk, episodes)), counts, starts, order, ways, shots + queries, seed)
        for first in range(0, episodes, chunk)
    ]
    slots = torch.from_numpy(np.concatenate([slot for slot, _ in drawn]))
    images = torch.from_numpy(np.concatenate([image for _, image in drawn]))
    way = torch.arange(ways)
    return Episodes(
        support=images[:, :, :shots].flatten(1),
        support_labels=way.repeat_interleave(shots).repeat(episodes, 1),
        query=images[:, :, shots:].flatten(1),
        query_labels=way.repeat_interleave(queries).repeat(episodes, 1),
        classes=torch.from_numpy(classes.astype(np.int64))[slots],
    )


def _draw(
    index: np.ndarray, counts: np.ndarray, starts: np.ndarray, order: np.ndarray, ways: int, per_way: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Class positions (e, W) and image indices (e, W, K+Q) of the episodes numbered `index`."""
    slots = _distinct(keyed_uniform(seed, "episode classes", 0, index, ways), np.full(len(index), len(counts)))
    uniform = keyed_uniform(seed, "episode images", 0, index, per_way * ways)
    # draw number i * ways + w belongs to image i of way w, so that more images per way leave the earlier ones alone
    uniform = uniform.reshape(len(index), per_way, ways).swapaxes(1, 2).reshape(-1, per_way)
    rank = _distinct(uniform, counts[slots.ravel()])
    return slots, order[starts[slots][:, :, None] + rank.reshape(len(index), ways, per_way)]


def _distinct(uniform: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Without replacement: row r holds `uniform.shape[1]` different integers in [0, sizes[r]), in random order.

    Draw i is uniform over the sizes[r] - i integers that are left, taken as its rank among them; the number of steps
    is that of the draws, whatever the size of the classes.
    """
    rows, draws = uniform.shape
    sizes = sizes.astype(np.float64)
    chosen = np.empty((draws, rows), dtype=np.int32)  # one draw per line: each step reads whole lines
    ascending = np.full((draws, rows), np.iinfo(np.int32).max, dtype=np.int32)
    place = np.arange(draws, dtype=np.int32)[:, None]
    for i in range(draws):
        rank = (uniform[:, i] * (sizes - i)).astype(np.int32)
        # the integer of that rank lies above every earlier choice s_j (ascending) with s_j - j <= rank
        chosen[i] = rank + np.count_nonzero(ascending[:i] - place[:i] <= rank, axis=0)
        ascending[1 : i + 1] = np.maximum(ascending[:i], np.minimum(ascending[1 : i + 1], chosen[i]))
        ascending[0] = np.minimum(ascending[0], chosen[i])
    return chosen.T


def _check_feasible(
    classes: np.ndarray, counts: np.ndarray, ways: int, shots: int, queries: int, class_names: Sequence[str] | None
) -> None:
    if len(classes) < ways:
        raise DataError(f"{ways}-way episodes need {ways} classes, got {len(classes)}: lower ways or use a split with more classes")
    short = np.flatnonzero(counts < shots + queries)
    if not len(short):
        return
    label, count = int(classes[short[0]]), int(counts[short[0]])
    named = f" ({class_names[label]!r})" if class_names is not None and 0 <= label < len(class_names) else ""
    smallest = int(counts.min())
    advice = f"lower queries to at most {smallest - shots}" if smallest > shots else "lower shots and queries"
    more = f", and {len(short) - 1} more classes have too few" if len(short) > 1 else ""
    raise DataError(
        f"class {label}{named} has {count} images, an episode needs {shots + queries} ({shots} shots + {queries} queries)"
        f"{more}: {advice}, or leave such classes out of the split"
    )


def _check_disjoint(support: Tensor, query: Tensor) -> None:
    ordered = torch.cat([support, query], dim=1).sort(dim=1).values
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    if bool(repeated.any()):
        episode = int(repeated.nonzero()[0])
        raise DataError(f"episode {episode} uses an image twice: support and query must be disjoint, or the accuracy is meaningless")
