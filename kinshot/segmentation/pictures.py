"""Pictures of class and way maps: drawn over images, score maps as colours, and files that keep every value.

Pictures are uint8 (H, W, 3), maps whole numbers (H, W): 0 background, then classes or ways, 255 nothing. Pure functions of arrays.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from kinshot.samples.class_map import IGNORE

WAY_COLORS = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442", "#0072b2", "#d55e00")
"""Colours of ways 1 to 7, told apart with the usual colour deficiencies too (Okabe and Ito, 2008); further ones have the palette's."""
SEQUENTIAL = ("#00204d", "#31446b", "#666970", "#958f78", "#cbba69", "#ffea46")
"""From low to high, in brightness too, so that it reads in gray and with colour deficiencies (cividis; Nuñez and others, 2018)."""
DIVERGING = ("#2d004b", "#7564a0", "#b9b4d6", "#f7f7f7", "#fdbf71", "#d5790f", "#7f3b08")
"""Violet, white in the middle, orange."""
GRAY = 128
"""What stands for nothing: of pixels without a class, hatched; of scores that are not finite, plain."""


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def _palette() -> np.ndarray:
    """The rule of PASCAL VOC (bits of the index spread over red, green and blue), the first ways in colours that everybody sees."""
    index, channels = np.arange(256)[:, None], np.arange(3)
    found = sum(((index >> (3 * bit + channels) & 1) << (7 - bit) for bit in range(3)), np.zeros((256, 3), dtype=np.int64)).astype(np.uint8)
    found[1 : 1 + len(WAY_COLORS)] = [_rgb(color) for color in WAY_COLORS]
    return found


PALETTE = _palette()
"""The colour of every value, uint8 (256, 3): 0 is black, no two are equal."""


def pixels_of(image: np.ndarray) -> np.ndarray:
    """An image as sources give it, uint8 (C, H, W), as a picture: three channels as they are, others as the gray of their mean."""
    rows = image.transpose(1, 2, 0)
    if rows.shape[2] == 3:
        return np.ascontiguousarray(rows)
    gray = rows.mean(axis=2, keepdims=True).round().astype(np.uint8)
    return np.repeat(gray, 3, axis=2)


def border(values: np.ndarray, width: int = 1) -> np.ndarray:
    """The pixels of classes that are at most `width` from one of another value: bool (H, W). The picture's edge is no border."""
    whole = values.astype(np.int64)
    mixed = _highest(whole, width) != -_highest(-whole, width)
    return mixed & (values != 0) & (values != IGNORE)


def _highest(values: np.ndarray, width: int) -> np.ndarray:
    """The highest value at most `width` pixels away, in rows and in columns: int64 (H, W). torch's, as SciPy's takes long to load."""
    found = torch.from_numpy(values)[None, None]
    for axis in (0, 1):
        reach = [width if axis == along else 0 for along in (0, 1)]
        found = F.max_pool2d(found, [2 * one + 1 for one in reach], stride=1, padding=reach)
    return found[0, 0].numpy()


def overlay(picture: np.ndarray, values: np.ndarray, *, fill: float = 0.4, width: int | None = None) -> np.ndarray:
    """A map drawn over its picture: classes filled with their colours, their inner borders drawn, 255 hatched in gray.

    A dark line runs outside of each border, so that it is seen on a ground of its own colour too.

    Args:
        picture: uint8 (H, W, 3).
        values: the map (H, W).
        fill: how much of the colour inside, from 0 (the picture alone) to 1.
        width: of the border in pixels; 0 draws none, None is a hundredth of the shorter side and at least 1.
    """
    values = np.asarray(values).astype(np.uint8)
    width = max(1, min(values.shape) // 100) if width is None else width
    mixed = picture.astype(np.float64)
    inside = (values != 0) & (values != IGNORE)
    colors = PALETTE[values].astype(np.float64)
    mixed[inside] += fill * (colors - mixed)[inside]
    hatched = _hatched(values == IGNORE)
    mixed[hatched] = GRAY
    if width:
        edge = border(values, width)
        around = (_highest(inside.astype(np.int64), width) > 0) & ~inside & (values != IGNORE)
        mixed[around] *= 0.35
        mixed[edge] = colors[edge]
    return mixed.round().astype(np.uint8)


def _hatched(where: np.ndarray) -> np.ndarray:
    """Diagonal lines inside a region: bool (H, W)."""
    period = max(4, min(where.shape) // 24)
    rows, columns = np.indices(where.shape)
    return where & ((rows + columns) % period < (period + 1) // 2)


def heat(scores: np.ndarray, low: float | None = None, high: float | None = None, colors: Sequence[str] = SEQUENTIAL) -> np.ndarray:
    """A score map (H, W) as colours from `low` to `high`, None for the lowest and highest score; gray where it is not finite."""
    scores = np.asarray(scores, dtype=np.float64)
    known = np.isfinite(scores)
    some = scores[known] if known.any() else np.zeros(1)
    low, high = float(some.min()) if low is None else low, float(some.max()) if high is None else high
    share = np.clip((np.where(known, scores, low) - low) / ((high - low) or 1.0), 0, 1)
    stops = np.linspace(0, 1, len(colors))
    mixed = np.stack([np.interp(share, stops, channel) for channel in np.array([_rgb(color) for color in colors]).T], axis=-1)
    mixed[~known] = GRAY
    return mixed.round().astype(np.uint8)


def margin(scores: np.ndarray, way: int) -> np.ndarray:
    """How far a way's score lies above the best of the others, (H, W): above 0 where the pixel is the way's.

    Args:
        scores: (1 + ways, H, W), background first.
        way: from 0.
    """
    return scores[way + 1] - np.delete(scores, way + 1, axis=0).max(axis=0)


def margin_heat(scores: np.ndarray, way: int) -> np.ndarray:
    """The margin of a way in colours: orange where the pixel is the way's, violet where not, white at the decision.

    The strongest colours are the largest margin of this picture, so that heads of any scale are seen.
    """
    found = margin(np.asarray(scores, dtype=np.float64), way)
    largest = float(np.abs(found[np.isfinite(found)]).max(initial=0.0)) or 1.0
    return heat(found, -largest, largest, DIVERGING)


def index_png(values: np.ndarray) -> bytes:
    """A map (H, W) of values 0 to 255 as a PNG file of palette indices: colours to look at, values that come back exactly."""
    picture = Image.fromarray(np.ascontiguousarray(np.asarray(values).astype(np.uint8)))
    picture.putpalette(PALETTE.tobytes())
    return _file(picture)


def picture_png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    return _file(Image.fromarray(np.ascontiguousarray(picture)))


def _file(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()
