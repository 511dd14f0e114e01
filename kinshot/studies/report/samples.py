"""Samples as a page shows them: pictures no larger than needed, or text."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from kinshot.datasets.base import Source

_SIDE = 96
"""Pixels that a picture has at most on a side: twice what the page gives it, for sharp screens."""
_SMALL = 48
"""Up to this side colour pictures are kept as they are; beyond, JPEG takes a fifth of the bytes."""


@dataclass(frozen=True)
class Sample:
    """One sample: a picture, or where there is none its text."""

    picture: Image.Image | None = None
    text: str = ""

    def data_uri(self) -> str:
        """The picture as a `data:` address."""
        if self.picture is None:
            return ""
        photo = self.picture.mode == "RGB" and max(self.picture.size) > _SMALL
        file = io.BytesIO()
        if photo:
            self.picture.save(file, format="JPEG", quality=85)
        else:
            self.picture.save(file, format="PNG", optimize=True)
        kind = "jpeg" if photo else "png"
        return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def load_samples(source: Source, indices: Sequence[int], side: int = _SIDE) -> dict[int, Sample]:
    """Samples of a source by their number, pictures with at most `side` pixels on a side."""
    chosen = sorted(set(indices))
    if not chosen:
        return {}
    spec, batch = source.spec, source.load(np.array(chosen, dtype=np.int64))
    pictures = spec.pictures(batch)
    if pictures is not None:
        return {index: Sample(picture=picture_of(pixels, side)) for index, pixels in zip(chosen, pictures.numpy(), strict=True)}
    texts = spec.texts(batch) or [f"sample {index}" for index in chosen]
    return {index: Sample(text=text) for index, text in zip(chosen, texts, strict=True)}


def picture_of(pixels: np.ndarray, side: int = _SIDE) -> Image.Image:
    """uint8 (C, H, W) as a picture: gray for one channel, colour for three, else the mean of the channels."""
    if len(pixels) == 3:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    else:
        picture = Image.fromarray(pixels.mean(axis=0).round().astype(np.uint8))
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture
