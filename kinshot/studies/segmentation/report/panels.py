"""Pictures of an episode for the page: support with masks, queries with truth, prediction and score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from kinshot.core.errors import DataError
from kinshot.segmentation.pictures import margin_heat, overlay
from kinshot.segmentation.strips import Panel, enlarged, stacked, strip
from kinshot.studies.report.samples import Sample
from kinshot.studies.segmentation.report.content import Content

SIDE = 320
"""Pixels that a picture has at most on its longer side, and small ones at least half of: about twice what the page gives it."""

ON_SHEET = ("the lower quarter", "the median", "the upper quarter", "the best")
"""Why the episodes of `sheet` are in the gallery."""


@dataclass(frozen=True)
class QueryPictures:
    """A query as it is, and with its truth, its prediction and the score of the way that it was drawn for."""

    image: Sample
    truth: Sample
    prediction: Sample
    score: Sample


@dataclass(frozen=True)
class EpisodePictures:
    """The support of an episode with masks, (ways, shots), and its queries."""

    support: list[list[Sample]]
    queries: list[QueryPictures]


def shown(picture: np.ndarray, values: np.ndarray | None = None) -> Sample:
    """A picture uint8 (H, W, 3) in the page's size, with a way map (H, W) drawn over it where one is given."""
    fitted = _fitted(picture, Image.Resampling.LANCZOS)
    if values is not None:
        drawn_over = _fitted(np.asarray(values).astype(np.uint8), Image.Resampling.NEAREST)
        fitted = overlay(fitted, drawn_over)
    return Sample(picture=Image.fromarray(np.ascontiguousarray(fitted)))


def query_pictures(image: np.ndarray, truth: np.ndarray, scores: np.ndarray, target: int) -> QueryPictures:
    """The pictures of a query.

    Args:
        image: uint8 (H, W, 3).
        truth: way map (H, W).
        scores: (1 + ways, H, W), background first.
        target: the way whose score is shown, from 0.
    """
    prediction = np.asarray(scores).argmax(axis=0)
    return QueryPictures(shown(image), shown(image, truth), shown(image, prediction), shown(margin_heat(scores, target)))


def support_pictures(support: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> list[list[Sample]]:
    """The pictures of the support, by way and shot, from images uint8 (H, W, 3) with way maps (H, W)."""
    return [[shown(*pair) for pair in way] for way in support]


def sheet(content: Content, pictures: Mapping[int, EpisodePictures], height: int = 160) -> np.ndarray:
    """Episodes of the gallery as one picture, from the lower quarter to the best, the first query of each: uint8 (H, W, 3).

    Raises DataError where no episode has a figure.
    """
    rows = []
    for episode in [one for one in content.gallery if one.why in ON_SHEET] or content.gallery:
        query, found = episode.queries[0], pictures[episode.number].queries[0]
        iou = query.iou[query.target]
        support = [(f"support: {episode.classes[query.target]}", sample) for sample in pictures[episode.number].support[query.target]]
        told = "prediction" if iou is None else f"prediction, IoU {iou:.0f} %"
        named = [("query", found.image), ("truth", found.truth), (told, found.prediction), ("score", found.score)]
        rows.append(strip([Panel(title, np.asarray(sample.picture)) for title, sample in [*support, *named]], height))
    if not rows:
        raise DataError("no episode has an IoU, so that there is none to show: draw more episodes")
    return stacked(rows)


def _fitted(array: np.ndarray, how: Image.Resampling) -> np.ndarray:
    """At most SIDE on the longer side, and at least half of it: small ones in whole blocks of pixels."""
    array = enlarged(array, SIDE // 2)
    longer = max(array.shape[:2])
    if longer <= SIDE:
        return array
    size = tuple(max(1, round(side * SIDE / longer)) for side in (array.shape[1], array.shape[0]))
    return np.asarray(Image.fromarray(np.ascontiguousarray(array)).resize((size[0], size[1]), how))
