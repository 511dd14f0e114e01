"""Dense episodes evaluated: every image encoded once, episodes in batches, all segmenters on the same maps and truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.scenes import IMAGE, MASK, Scenes
from kinshot.encoders.maps import Maps
from kinshot.learn.model import Model
from kinshot.segmentation.boundary import Unsaid, count_edges
from kinshot.segmentation.class_blind import CLASS_BLIND, class_blind
from kinshot.segmentation.counts import Counts, count_pixels
from kinshot.segmentation.dense import Dense, way_maps
from kinshot.segmentation.episodes import DenseEpisodes
from kinshot.segmentation.map_cache import MapCache
from kinshot.segmentation.protocol import USUAL, Protocol

Encode = Callable[[np.ndarray], Mapping[str, Tensor]]
"""Rows of images (n,) to their maps by stage, each (n, C, h, w)."""
Segmenter = Callable[[Dense], Tensor]
"""Dense episodes to scores (E, Q, 1 + W, h, w), background first."""

_MIB = 1 << 20
_SCORES_AT_ONCE = 1 << 24
"""Scores of pixels that are held at a time."""


@dataclass(frozen=True)
class Limits:
    """What an evaluation may hold at a time; no figure depends on it.

    Args:
        memory_mib: of maps that are kept; as much again may be held of what a batch of episodes looks at, and of true masks. What an
            encoder and segmenters need while they work comes on top. One episode and one batch of images are always held.
        episodes: most episodes in a batch.
        images: that are encoded together.

    Raises:
        ConfigError: a number below 1.
    """

    memory_mib: int = 512
    episodes: int = 16
    images: int = 32

    def __post_init__(self) -> None:
        if min(self.memory_mib, self.episodes, self.images) < 1:
            raise ConfigError(f"limits of an evaluation are at least 1, got {self}")


@dataclass(frozen=True)
class Outlines:
    """How outlines are compared, see `kinshot.segmentation.boundary.count_edges`."""

    tolerance: float
    unsaid: Unsaid = "drop"


@dataclass(frozen=True)
class Predicted:
    """What was predicted of one query.

    Args:
        episode: number of its episode.
        query: its number among the queries of the episode.
        row: the image.
        truth: way map at the protocol's size, int64 (H, W).
        labels: by name of the segmenter, or of the class-blind rule, int64 (H, W).
        scores: by name of the segmenter at the same size, (1 + W, H, W).
    """

    episode: int
    query: int
    row: int
    truth: Tensor
    labels: Mapping[str, Tensor]
    scores: Mapping[str, Tensor]


def encoder_maps(model: Model, scenes: Scenes, stages: Sequence[str]) -> Encode:
    """What a model's encoder says of a source's images, without gradients and in evaluation mode.

    Args:
        model: whose encoder has `stages`.
        scenes: where the images are.
        stages: the first one is the one that segmenters compare.
    """

    def encode(rows: np.ndarray) -> dict[str, Tensor]:
        images = scenes.load(rows, (IMAGE,))[IMAGE].to(next(model.parameters()).device)
        maps = cast(Callable[[Tensor, Sequence[str]], list[Maps]], model.encoder.maps)
        learning = [module for module in model.encoder.modules() if module.training]
        if learning:
            model.encoder.eval()
        try:
            with torch.no_grad():
                found = maps(model.prepare(images), stages)
        finally:
            for module in learning:
                module.training = True
        return {stage: one.values for stage, one in zip(stages, found, strict=True)}

    return encode


def evaluate_episodes(
    episodes: DenseEpisodes,
    scenes: Scenes,
    encode: Encode,
    segmenters: Mapping[str, Segmenter],
    *,
    protocol: Protocol = USUAL,
    limits: Limits = Limits(),
    blind: bool = False,
    outlines: Outlines | None = None,
    told: Callable[[int], object] | None = None,
) -> dict[str, Counts]:
    """Counts of every segmenter on the same episodes, by name.

    Args:
        episodes: to evaluate.
        scenes: where their images and masks are.
        encode: gives maps of images; asked once for each while there is room for what it gives, and never without segmenters.
        segmenters: by the name that they get in the result.
        protocol: at which size predictions meet the truth, and how.
        limits: what may be held at a time.
        blind: count the class-blind rules, too, under `CLASS_BLIND`.
        outlines: how outlines are compared; None for not.
        told: is called with the number of episodes that are done.

    Raises:
        DataError: no episodes, or a segmenter that gives scores of another shape, or some that are not finite.
    """
    names = [*segmenters, *(CLASS_BLIND if blind else ())]
    shape = (len(episodes), episodes.queries)
    tables = {name: np.zeros((*shape, episodes.ways + 1, episodes.ways + 1), dtype=np.int64) for name in names}
    edges = {name: np.zeros((*shape, episodes.ways, 4), dtype=np.int64) for name in names} if outlines else {}
    work = _Work(episodes, scenes, encode, segmenters, protocol, limits, blind)
    with torch.no_grad():
        for first, scores in work.batches():
            for places, truth, labels, _ in work.at_size(first, scores):
                where = np.unravel_index(places + first * episodes.queries, shape)
                for name, said in labels:
                    tables[name][where] = count_pixels(said, truth, episodes.ways + 1).cpu().numpy()
                    if outlines:
                        found = count_edges(said, truth, episodes.ways, tolerance=outlines.tolerance, unsaid=outlines.unsaid)
                        edges[name][where] = found
            if told is not None:
                told(min(len(episodes), first + work.step))
    return {name: Counts(episodes.classes, tables[name], edges.get(name)) for name in names}


def predict_episodes(
    episodes: DenseEpisodes,
    scenes: Scenes,
    encode: Encode,
    segmenters: Mapping[str, Segmenter],
    *,
    protocol: Protocol = USUAL,
    limits: Limits = Limits(),
    blind: bool = False,
) -> Iterator[Predicted]:
    """What is predicted of every query of a few episodes, one after the other; `episodes[numbers]` are some of a list.

    Arguments and errors are those of `evaluate_episodes`, whose predictions these are. A query whose mask is 255 throughout has no truth.
    """
    work = _Work(episodes, scenes, encode, segmenters, protocol, limits, blind)
    with torch.no_grad():
        for first, scores in work.batches():
            found = [one for group in work.at_size(first, scores) for one in _each(episodes, first, *group)]
            yield from sorted(found, key=lambda one: (one.episode, one.query))


def _each(
    episodes: DenseEpisodes, first: int, places: np.ndarray, truth: Tensor, labels: Iterator[tuple[str, Tensor]], scores: _Scores
) -> Iterator[Predicted]:
    """The queries of a group one by one."""
    said, sized = dict(labels), scores()
    for number, place in enumerate(places.tolist()):
        episode, query = divmod(place + first * episodes.queries, episodes.queries)
        row = int(episodes.query[episode, query])
        ours, felt = ({name: one[number] for name, one in of.items()} for of in (said, sized))
        yield Predicted(episode, query, row, truth[number], ours, felt)


_Scores = Callable[[], dict[str, Tensor]]
_Group = tuple[np.ndarray, Tensor, Iterator[tuple[str, Tensor]], _Scores]


class _Work:
    """The two halves of an evaluation: scores of a batch of episodes, and what they are at the size of the truth."""

    def __init__(
        self, episodes: DenseEpisodes, scenes: Scenes, encode: Encode, segmenters: Mapping[str, Segmenter], protocol: Protocol,
        limits: Limits, blind: bool,
    ) -> None:  # fmt: skip
        self.episodes, self.scenes, self.segmenters, self.protocol, self.blind = episodes, scenes, segmenters, protocol, blind
        if not len(episodes):
            raise DataError("an evaluation needs episodes, and was given none: draw some")
        self.sizes = protocol.sizes(scenes, episodes.query.ravel())
        self.rows = np.concatenate([episodes.support.reshape(len(episodes), -1), episodes.query], axis=1)
        self.stages: tuple[str, ...] = ()

        def load(rows: np.ndarray) -> dict[str, Tensor]:
            maps = encode(rows)
            self.stages = tuple(maps)
            return {**maps, MASK: scenes.load(rows, (MASK,))[MASK].to(next(iter(maps.values())).device, torch.uint8)}

        budget, self.step = limits.memory_mib * _MIB, limits.episodes
        if segmenters:
            self.cache = MapCache(load, self.rows.ravel(), budget, limits.images)
            masks = episodes.ways * episodes.shots * scenes.frame.size**2 * 8
            self.step = max(1, min(self.step, budget // (self.rows.shape[1] * self.cache.each + masks)))
        largest = int(self.sizes.prod(axis=1).max())
        self.truth = lru_cache(maxsize=max(1, budget // largest))(lambda row: protocol.truth(scenes, row))

    def batches(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Number of each batch's first episode, and scores (E * Q, L, h, w) of its queries by segmenter."""
        for first in range(0, len(self.episodes), self.step):
            some = self.episodes[first : first + self.step]
            dense = self._dense(some, first) if self.segmenters else None
            yield first, {name: self._scores(name, dense, some) for name in self.segmenters if dense is not None}

    def _dense(self, some: DenseEpisodes, first: int) -> Dense:
        after = first + len(some)
        self.cache.need(self.rows[first:after].ravel(), after * self.rows.shape[1])
        support, query = ({stage: self.cache.take(stage, rows) for stage in self.stages} for rows in (some.support, some.query))
        masks = self.cache.take(MASK, some.support)
        return Dense(support, way_maps(masks, torch.from_numpy(some.classes).to(masks.device), self.protocol.others), query)

    def _scores(self, name: str, dense: Dense, some: DenseEpisodes) -> Tensor:
        scores = self.segmenters[name](dense)
        wanted = (len(some), some.queries, some.ways + 1)
        if scores.ndim != 5 or scores.shape[:3] != wanted:
            raise DataError(f"segmenter {name} is to give scores {(*wanted, 'h', 'w')}, got {tuple(scores.shape)}")
        if not bool(scores.isfinite().all()):
            raise DataError(f"segmenter {name} gave scores that are not finite: a map or a mask of these episodes may hold none, too")
        return scores.flatten(0, 1)

    def at_size(self, first: int, scores: Mapping[str, Tensor]) -> Iterator[_Group]:
        """Queries of a batch, by size: their places in it, truth as way maps, labels by name one after the other, and sized scores."""
        begin = first * self.episodes.queries
        count = min(self.step * self.episodes.queries, len(self.sizes) - begin)
        sizes, group = np.unique(self.sizes[begin : begin + count], axis=0, return_inverse=True)
        for number, (height, width) in enumerate(sizes.tolist()):
            places = np.flatnonzero(group.reshape(-1) == number)
            step = max(1, _SCORES_AT_ONCE // ((self.episodes.ways + 1) * height * width))
            for some in np.split(places, range(step, len(places), step)):
                yield self._group(some, begin, scores, height, width)

    def _group(self, places: np.ndarray, begin: int, scores: Mapping[str, Tensor], height: int, width: int) -> _Group:
        episode, query = np.divmod(places + begin, self.episodes.queries)
        device = next((one.device for one in scores.values()), torch.device("cpu"))
        masks = torch.stack([self.truth(row) for row in self.episodes.query[episode, query].tolist()]).to(device)
        classes = torch.from_numpy(self.episodes.classes[episode]).to(device)
        chosen, frame = torch.from_numpy(places).to(device), self.scenes.frame

        def labels() -> Iterator[tuple[str, Tensor]]:
            for name, one in scores.items():
                yield name, self.protocol.labels(one[chosen], frame, height, width)
            if self.blind:
                yield from class_blind(masks).items()

        def sized() -> dict[str, Tensor]:
            return {name: self.protocol.scores(one[chosen], frame, height, width) for name, one in scores.items()}

        return places, way_maps(masks, classes, self.protocol.truth_others), labels(), sized
