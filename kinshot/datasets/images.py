"""Decoding image files into uint8 arrays, with errors that name the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kinshot.core.errors import DataError
from kinshot.datasets.files import regular_file

# Formats that Pillow only hands over to another program or plug-in: Ghostscript (EPS), or nothing at all by default.
_NOT_PICTURES = frozenset({"EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR"})
# Pillow tries formats in turn; the common ones first.
_TRIED_FIRST = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM")


@cache
def image_formats() -> tuple[str, ...]:
    """Names of the formats that Pillow itself decodes."""
    Image.init()
    return (*_TRIED_FIRST, *sorted(set(Image.OPEN) - _NOT_PICTURES - set(_TRIED_FIRST)))


@cache
def image_suffixes() -> frozenset[str]:
    """File name endings, lower case with the dot, of the formats that Pillow itself decodes."""
    formats = image_formats()
    return frozenset(suffix.lower() for suffix, name in Image.registered_extensions().items() if name in formats)


def list_images(folder: Path) -> list[Path]:
    """Every image file below `folder`, sorted by path; hidden files and folders are left out, linked folders not entered."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in image_suffixes()]
    return sorted(found)


def read_image(path: Path, convert: Callable[[Image.Image], np.ndarray], formats: tuple[str, ...] = ()) -> np.ndarray:
    """Open `path`, a plain file, as one of `formats` (default: all that Pillow decodes) and convert it.

    Pillow's limit on the number of pixels is kept: a picture above it is refused before it is decoded. Raises DataError naming
    the file, whatever is wrong with it.
    """
    regular_file(path)
    try:
        with Image.open(path, formats=formats or image_formats()) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise DataError(f"image {path} has {image.width} x {image.height} pixels, more than {limit:,}: scale it down or remove it")
            return convert(image)
    except DataError:
        raise
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise DataError(f"cannot read image {path}: {error or type(error).__name__}: repair or remove the file") from error


def load_image(path: Path, size: int, channels: int) -> np.ndarray:
    """Decode one file to uint8 (channels, size, size), channels 1 or 3.

    The central square is resized with an antialiasing bilinear filter: the shorter side becomes `size`.
    EXIF orientation is applied, transparency is laid on white, 16-bit grey keeps its high byte. Raises DataError.
    """

    def convert(image: Image.Image) -> np.ndarray:
        flat = _to_mode(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB", path)
        side = min(flat.size)
        left, top = (flat.width - side) / 2, (flat.height - side) / 2
        # Cropping inside the resize keeps a very long picture from growing before it is cut.
        square = flat.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
        pixels = np.asarray(square)
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)

    return read_image(path, convert)


def decode_all(paths: Sequence[Path], decode: Callable[[Path], np.ndarray], shape: tuple[int, int, int], threads: int = 8) -> np.ndarray:
    """Every file decoded by up to `threads` threads: uint8 (N, *shape). Raises DataError naming the first bad file."""
    images = np.empty((len(paths), *shape), dtype=np.uint8)
    chunk = 64

    def fill(start: int) -> None:
        for row in range(start, min(start + chunk, len(paths))):
            images[row] = decode(paths[row])

    with ThreadPoolExecutor(max_workers=min(threads, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(fill, start) for start in range(0, len(paths), chunk)]
        try:
            for job in jobs:
                job.result()
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise
    return images


def _to_mode(image: Image.Image, mode: str, path: Path) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise DataError(f"cannot read image {path}: its 32-bit values leave 0..65535: convert it to 8 or 16 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise DataError(f"cannot read image {path}: floating-point pixels have no fixed range: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid).convert("RGB")
    return image.convert(mode)
