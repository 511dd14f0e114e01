"""Class maps from files: the numbers that a mask holds, never its colours, and what is wrong with those that hold none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kinshot.core.errors import DataError
from kinshot.datasets.files import content_digests
from kinshot.datasets.images import read_image
from kinshot.samples.class_map import IGNORE

LOSSLESS = ("PNG", "TIFF", "BMP", "PPM", "GIF")
"""Formats that keep every number."""
_LOSSY_ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".jp2", ".avif"})
_NUMBERS = frozenset({"1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N"})
# Pillow spreads greys of 2 and 4 bits over 0 to 255.
_WIDENED = {"L;2": 85, "L;4": 17}
Colours = Mapping[tuple[int, int, int], int]
"""The number that a colour stands for."""


def read_mask(path: Path, *, binary: bool = False, colours: Colours | None = None, threshold: int = 0) -> np.ndarray:
    """The class map in a file: uint8 (H, W), EXIF orientation applied.

    A picture with a palette gives its indices, a grey one its values, one of 16 bits too as far as they stay below 256, and a black and
    white one 0 and 1. 255 says nothing of a pixel.

    Args:
        path: of a PNG, or another format that loses nothing.
        binary: 0 is background, and 1 or 255 foreground, which becomes 1: no pixel is ignored.
        colours: numbers by (red, green, blue), for masks that are coloured pictures.
        threshold: of masks that are pictures with shades between black and white: the brightness of 255 from which on a pixel is
            foreground, which becomes 1; 0 for masks that hold numbers.

    Raises:
        DataError: a lossy format, coloured pixels without `colours` or in none of them, values beyond 255, or, of a binary mask, values
            beside 0 and one other.
    """
    if path.suffix.lower() in _LOSSY_ENDINGS:
        raise _lossy(path, path.suffix.lower().lstrip(".").upper())
    return read_image(path, partial(_numbers, path=path, binary=binary, colours=colours, threshold=threshold))


def write_mask(path: Path, values: np.ndarray, palette: Sequence[int] | None = None) -> None:
    """Keep a class map (H, W) of values 0 to 255 as an indexed PNG, with a palette of up to 256 colours, or in greys."""
    image = Image.fromarray(np.asarray(values, dtype=np.uint8))
    if palette is not None:
        image.putpalette(list(palette))
    image.save(path, format="PNG")


def _numbers(image: Image.Image, *, path: Path, binary: bool, colours: Colours | None, threshold: int) -> np.ndarray:
    if image.format not in LOSSLESS:
        raise _lossy(path, str(image.format))
    if threshold:
        return (np.asarray(ImageOps.exif_transpose(image).convert("L")) >= threshold).astype(np.uint8)
    if colours is not None and image.mode not in _NUMBERS:
        return _of_colours(np.asarray(ImageOps.exif_transpose(image).convert("RGB")), path, colours)
    if image.mode not in _NUMBERS:
        what = "is a coloured picture" if "RGB" in image.mode else f"has pixels of the kind {image.mode}"
        remedy = "save it as an indexed PNG whose indices are the numbers of classes, or give every class its colour in classes.json"
        raise DataError(f"mask {path} {what}, expected numbers of classes: {remedy}")
    widened = _WIDENED.get(_stored(image), 1)
    values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int64) // widened
    if values.min(initial=0) < 0 or values.max(initial=0) > IGNORE:
        wrong = int(values.max() if values.max() > IGNORE else values.min())
        remedy = f"number the classes from 1 to {IGNORE - 2}, and {IGNORE} for pixels to ignore, and save it with 8 bits"
        raise DataError(f"mask {path} holds {wrong}, more than 8 bits can: {remedy}")
    return _foreground(values, path) if binary else values.astype(np.uint8)


def _stored(image: Image.Image) -> str:
    """How Pillow calls the form in which a picture that is not yet decoded lies in its file."""
    tiles = getattr(image, "tile", None)
    given = tiles[0][3] if tiles else ""
    return str(given[0] if isinstance(given, tuple) and given else given)


def _foreground(values: np.ndarray, path: Path) -> np.ndarray:
    found = sorted(set(np.unique(values).tolist()) - {0})
    if len(found) > 1 or not set(found) <= {1, IGNORE}:
        shown = ", ".join(map(str, [0, *found][:6]))
        raise DataError(f"mask {path} holds {shown}, and binary masks 0 and either 1 or {IGNORE}: set binary=false, or correct the mask")
    return (values > 0).astype(np.uint8)


def _of_colours(pixels: np.ndarray, path: Path, colours: Colours) -> np.ndarray:
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    known = np.array([(red << 16) + (green << 8) + blue for red, green, blue in colours], dtype=np.int64)
    order = np.argsort(known)
    places = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    if (wrong := known[order][places] != codes).any():
        red, green, blue = pixels[wrong][0].tolist()
        raise DataError(
            f"mask {path} holds the colour ({red}, {green}, {blue}), which no class has: name it in classes.json, or correct it"
        )
    return np.array(list(colours.values()), dtype=np.uint8)[order][places]


def _lossy(path: Path, kind: str) -> DataError:
    return DataError(
        f"mask {path} is {kind}, which changes numbers of classes near borders: save masks as PNG from where they were made, "
        "and do not convert this one"
    )


@dataclass(frozen=True)
class MaskFiles:
    """Class maps that lie in files, one for each sample; picklable.

    Args:
        paths: of the masks.
        root: folder that they are below.
        binary: see `read_mask`.
        colours: see `read_mask`.
        values: for each sample the number that 1 stands for, where masks are binary and classes are told by something else.
        threshold: see `read_mask`.
    """

    paths: Sequence[Path]
    root: Path
    binary: bool = False
    colours: Colours | None = None
    values: Sequence[int] | None = None
    threshold: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> np.ndarray:
        """The numbers in a sample's class map, uint8 (H, W). Raises DataError."""
        found = read_mask(self.paths[row], binary=self.binary, colours=self.colours, threshold=self.threshold)
        return found if self.values is None else np.where(found == 1, np.uint8(self.values[row]), found)

    def where(self, row: int) -> str:
        """What to call a sample's mask in messages."""
        return str(self.paths[row])

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """A hash of what each mask is made from, bytes (B,)."""
        return content_digests([self.paths[row] for row in rows.tolist()], self.root)

    def settings(self) -> str:
        """What beside the files decides what is read."""
        return repr((self.binary, None if self.colours is None else sorted(self.colours.items()), self.values, self.threshold))

    def take(self, rows: np.ndarray) -> MaskFiles:
        """Those of some samples."""
        kept = rows.tolist()
        values = None if self.values is None else [self.values[row] for row in kept]
        return MaskFiles([self.paths[row] for row in kept], self.root, self.binary, self.colours, values, self.threshold)
