"""Pictures that hold more than a picture of 8 bits: how many of 16 bits are used, and frames beyond the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kinshot.core.errors import DataError
from kinshot.datasets.images import declared_bits, read_image

# Endings of formats with 16 bits a sample, or with several frames; no JPEG has either.
_MAY_BE_DEEP = frozenset(
    [".png", ".apng", ".tif", ".tiff", ".pgm", ".pnm", ".ppm", ".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".fit", ".fits", ".im"]
)
_MAY_MOVE = frozenset([".gif", ".webp", ".apng", ".tif", ".tiff", ".avif", ".avifs", ".fli", ".flc"])
_LOOKED_AT = 64
_HALF = 1 << 15


@dataclass(frozen=True)
class Look:
    """What one picture holds: the highest value of its 16 bits (-1 where it has fewer), in colour or grey, and its frames."""

    highest: int = -1
    colour: bool = False
    several: bool = False


def look(path: Path) -> Look:
    """How deep a picture is and whether it has several frames. Raises DataError for one that cannot be read."""
    found = Look()

    def convert(image: Image.Image) -> np.ndarray:
        nonlocal found
        several = path.suffix.lower() in _MAY_MOVE and bool(getattr(image, "is_animated", False))
        raw = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
        if image.mode.startswith("I") and not declared_bits(image):
            found = Look(int(np.asarray(image).max()), several=several)
        elif ";16" in raw and not image.mode.startswith("I"):  # Pillow keeps the upper byte of every channel
            found = Look(256 * int(np.asarray(image.convert("RGB")).max()) + 255, True, several)
        else:
            found = Look(several=several)
        return np.zeros(0)

    read_image(path, convert)
    return found


def check_depth(paths: Sequence[Path], bits: int) -> str:
    """Look at up to 64 pictures; what is to be said of them, or nothing.

    Cameras and microscopes write 10, 12 or 14 bits into files of 16; by their upper bytes such pictures are nearly black.

    Args:
        paths: the pictures.
        bits: what was said of their depth; 0 for nothing.

    Raises:
        DataError: pictures of 16 bits none of which uses the highest bit, while `bits` is 0.
    """
    chosen = [path for path in paths if path.suffix.lower() in _MAY_BE_DEEP | _MAY_MOVE]
    chosen = [chosen[row] for row in np.unique(np.linspace(0, len(chosen) - 1, min(_LOOKED_AT, len(chosen))).astype(int))] if chosen else []
    seen = [(path, found) for path in chosen if (found := _readable(path)) is not None]
    deep = [(path, found) for path, found in seen if found.highest >= 0]
    highest = max((found.highest for _, found in deep), default=-1)
    if deep and highest < _HALF and not bits:
        raise DataError(_too_shallow(deep, highest))
    several = [path for path, found in seen if found.several]
    if not several:
        return ""
    return (
        f"{len(several)} of {len(seen)} pictures looked at have several frames or pages, such as {several[0]}: the first of each is taken"
    )


def _too_shallow(deep: list[tuple[Path, Look]], highest: int) -> str:
    what = f"{len(deep)} pictures of 16 bits, such as {deep[0][0]}, hold no value above {highest}"
    if any(found.colour for _, found in deep):
        return f"{what} and come out dark: convert them to 8 bits, or set bits=16 to take them as they are"
    needed = next(bits for bits in (8, 10, 12, 14, 15) if highest < 2**bits)
    return (
        f"{what}, as cameras and microscopes of {needed} bits write them; by their upper bytes they come out nearly black: "
        f"set bits={needed}, or what the camera has, or bits=16 to take them as they are"
    )


def _readable(path: Path) -> Look | None:
    try:
        return look(path)
    except DataError:
        return None  # which decoding says better
