"""Pictures side by side: support, query, truth, prediction, score, each with a word above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kinshot.segmentation.pictures import margin_heat, overlay, pixels_of

PAPER, INK = (255, 255, 255), (31, 41, 51)
GAP, _LINE, _SIZE = 6, 18, 12


@dataclass(frozen=True)
class Panel:
    """One picture of a strip, uint8 (H, W, 3), and what stands above it."""

    title: str
    picture: np.ndarray


def enlarged(array: np.ndarray, side: int) -> np.ndarray:
    """A picture or map (H, W, ...) with every pixel repeated, until its longer side has `side` pixels or more."""
    times = max(1, -(-side // max(array.shape[:2])))
    return array.repeat(times, axis=0).repeat(times, axis=1)


def episode_panels(
    support: Sequence[tuple[np.ndarray, np.ndarray]],
    query: np.ndarray,
    prediction: np.ndarray,
    scores: np.ndarray,
    truth: np.ndarray | None = None,
    *,
    way: int = 0,
    side: int = 160,
) -> list[Panel]:
    """A query of an episode as panels: support | query | truth | prediction | score, small images enlarged before maps are drawn over.

    Args:
        support: pictures uint8 (H, W, 3) with their way maps (H, W).
        query: uint8 (H, W, 3).
        prediction: way map (H, W) of the query.
        scores: (1 + ways, H, W) of the query, background first.
        truth: way map (H, W) of the query, where it is known.
        way: whose margin the last panel shows.
        side: that small images are enlarged to, in pixels.
    """

    def drawn(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
        return overlay(enlarged(picture, side), enlarged(values, side))

    shown = [Panel("support" if len(support) == 1 else f"support {i}", drawn(*pair)) for i, pair in enumerate(support, 1)]
    shown.append(Panel("query", enlarged(query, side)))
    if truth is not None:
        shown.append(Panel("truth", drawn(query, truth)))
    return [*shown, Panel("prediction", drawn(query, prediction)), Panel("score", enlarged(margin_heat(scores, way), side))]


def strip(panels: Sequence[Panel], height: int = 160) -> np.ndarray:
    """Panels in a row on white, all of one height, their titles above: uint8 (H, W, 3)."""
    pictures = [_fitted(panel.picture, height) for panel in panels]
    width = GAP + sum(picture.width + GAP for picture in pictures)
    sheet = Image.new("RGB", (width, _LINE + height + GAP), PAPER)
    draw, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(_SIZE), GAP
    for panel, picture in zip(panels, pictures, strict=True):
        draw.text((left, 1), panel.title, fill=INK, font=font)
        sheet.paste(picture, (left, _LINE))
        left += picture.width + GAP
    return np.asarray(sheet)


def query_sheet(
    images: np.ndarray,
    truth: np.ndarray,
    scores: np.ndarray,
    targets: Sequence[int],
    support: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]] | None = None,
    height: int = 128,
) -> np.ndarray:
    """Some queries below one another, each a strip with its truth, prediction (the best score) and score: what a validation shows.

    Args:
        images: of the queries, uint8 (N, C, H, W).
        truth: way maps (N, H, W).
        scores: (N, 1 + ways, H, W), background first.
        targets: the way whose margin each strip shows, from 0, N of them.
        support: for each query images uint8 (C, H, W) with way maps (H, W), to show in front.
        height: of each picture.
    """
    predictions, rows = np.asarray(scores).argmax(axis=1), []
    for i, (image, way) in enumerate(zip(images, targets, strict=True)):
        shown = [(pixels_of(np.asarray(picture)), np.asarray(ways)) for picture, ways in (support[i] if support else ())]
        query = pixels_of(np.asarray(image))
        panels = episode_panels(shown, query, predictions[i], np.asarray(scores[i]), np.asarray(truth[i]), way=int(way), side=height)
        rows.append(strip(panels, height))
    return stacked(rows)


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of any width below one another, flush left on white: uint8 (H, W, 3)."""
    widest = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows])


def _fitted(picture: np.ndarray, height: int) -> Image.Image:
    found = Image.fromarray(np.ascontiguousarray(picture))
    if found.height == height:
        return found
    size = (max(1, round(found.width * height / found.height)), height)
    return found.resize(size, Image.Resampling.NEAREST if height > found.height else Image.Resampling.LANCZOS)
