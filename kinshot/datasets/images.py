"""Decoding image files into uint8 arrays, with errors that name the file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kinshot.core.errors import DataError
from kinshot.datasets.files import in_threads, regular_file

# Formats that Pillow only hands over to another program or plug-in: Ghostscript (EPS), or nothing at all by default.
_NOT_PICTURES = frozenset({"EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR"})
# Pillow tries formats in turn; the common ones first.
_TRIED_FIRST = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 258, 262, 274
TURNED_SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange height and width."""
_SHOWN = 10
Converted = TypeVar("Converted")


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


def read_image(
    path: Path, convert: Callable[[Image.Image], Converted], formats: tuple[str, ...] = (), content: bytes | None = None
) -> Converted:
    """Open `path`, a plain file, or its `content` where that was read already, as one of `formats` (default: all that Pillow decodes).

    Pillow's limit on the number of pixels is kept: a picture above it is refused before it is decoded. Raises DataError naming
    the file, whatever is wrong with it.
    """
    if content is None:
        regular_file(path)
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=formats or image_formats()) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise DataError(f"image {path} has {image.width} x {image.height} pixels, more than {limit:,}: scale it down or remove it")
            return convert(image)
    except DataError:
        raise
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        # Pillow would name the bytes in memory, by their address
        unknown = content is not None and isinstance(error, UnidentifiedImageError)
        reason = "cannot identify image file" if unknown else error or type(error).__name__
        raise DataError(f"cannot read image {path}: {reason}: repair or remove the file") from error


def load_image(path: Path, size: int, channels: int, bits: int = 0, *, whole: bool = False) -> np.ndarray:
    """Decode one file to uint8 (channels, size, size), channels 1 or 3.

    The central square is resized with an antialiasing bilinear filter: the shorter side becomes `size`. With `whole` all of the picture
    is squeezed into the square.
    EXIF orientation is applied, transparency is laid on white, grey pictures of 16 bits keep the upper 8 of their lower `bits`
    (8 to 16; 0 is 16). Raises DataError.
    """
    return read_image(path, lambda image: framed(image, size, channels, path, bits, whole=whole))


def framed(image: Image.Image, size: int, channels: int, name: str | Path, bits: int = 0, *, whole: bool = False) -> np.ndarray:
    """An opened picture, called `name` in messages, as `load_image` gives that of a file: uint8 (channels, size, size).

    Raises DataError for pixels without a fixed range, and whatever Pillow does for a damaged picture that it has not decoded yet.
    """
    flat = upright(image, channels, name, bits)
    if not whole:
        return squared(flat, size)
    return _channels_first(flat.resize((size, size), Image.Resampling.BILINEAR))


def upright(image: Image.Image, channels: int, name: str | Path, bits: int = 0) -> Image.Image:
    """An opened picture, called `name` in messages, the right way up, in grey (1) or colour (3) of 8 bits. Raises as `framed` does."""
    return _flat(image, channels, bits, name)


def squared(flat: Image.Image, size: int) -> np.ndarray:
    """The central square of a picture that is `upright`: uint8 (channels, size, size)."""
    return _channels_first(flat.resize((size, size), Image.Resampling.BILINEAR, box=central_square(*flat.size)))


def central_square(width: float, height: float) -> tuple[float, float, float, float]:
    """The box (left, top, right, bottom) of the largest square in the middle of a picture.

    Cropping inside the resize keeps a very long picture from growing before it is cut.
    """
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def kept_whole(image: Image.Image, channels: int, name: str | Path) -> np.ndarray:
    """An opened picture, called `name` in messages, in its own size: uint8 (channels, H, W). Raises DataError as `framed` does."""
    return _channels_first(_flat(image, channels, 0, name))


def load_whole(path: Path, channels: int, bits: int = 0) -> np.ndarray:
    """Decode one file to uint8 (channels, H, W) as `load_image` does, but for its size, which it keeps. Raises DataError."""
    return read_image(path, lambda image: _channels_first(_flat(image, channels, bits, path)))


def size_of_image(path: Path) -> tuple[int, int, int]:
    """Height and width of a picture as it is shown, and its EXIF orientation (1: as it is stored), off its header. Raises DataError."""

    def measure(image: Image.Image) -> np.ndarray:
        turn = orientation(image)
        return np.array([image.width, image.height, turn] if turn in TURNED_SIDEWAYS else [image.height, image.width, turn])

    height, width, turn = read_image(path, measure).tolist()
    return height, width, turn


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1 where it says none."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1  # where the header says none, Pillow would decode the whole picture to look behind it
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(2, 9) else 1


def decode_all(paths: Sequence[Path], decode: Callable[[Path], np.ndarray], shape: tuple[int, int, int], threads: int = 8) -> np.ndarray:
    """Every file decoded by up to `threads` threads: uint8 (N, *shape). Raises DataError naming all bad files at once."""
    images, failed = decode_readable(paths, decode, shape, threads)
    if failed:
        raise DataError(told(failed, len(paths)))
    return images


def decode_readable(
    paths: Sequence[Path], decode: Callable[[Path], np.ndarray], shape: tuple[int, int, int], threads: int = 8
) -> tuple[np.ndarray, dict[int, str]]:
    """Every file decoded, uint8 (N, *shape), and what is wrong with each row that could not be, whose pixels mean nothing."""
    images = np.empty((len(paths), *shape), dtype=np.uint8)

    def fill(row: int) -> None:
        images[row] = decode(paths[row])

    return images, failures(len(paths), fill, threads)


def failures(count: int, act: Callable[[int], object], threads: int = 8) -> dict[int, str]:
    """`act` on every row of `count`; the messages of those that raised DataError, by row, ascending."""
    failed: dict[int, str] = {}

    def attempt(row: int) -> None:
        try:
            act(row)
        except DataError as error:
            failed[row] = str(error)

    in_threads(range(count), attempt, threads)
    return dict(sorted(failed.items()))


def told(failed: Mapping[int, str], count: int) -> str:
    """Failures as one message: a single one as it is, several under one another."""
    every = list(failed.values())
    if len(every) == 1:
        return every[0]
    more = [f"and {len(every) - _SHOWN} more"] if len(every) > _SHOWN else []
    return "\n  ".join([f"{len(every)} of {count} images cannot be read:", *every[:_SHOWN], *more])


def declared_bits(image: Image.Image) -> int:
    """The bits of a sample where the file itself says that they are fewer than 16, as TIFF can; else 0."""
    (bits,) = _tiff_tag(image, _BITS_PER_SAMPLE)[:1] or (0,)
    return int(bits) if 8 < int(bits) < 16 else 0


def white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF file counts from white to black."""
    return _tiff_tag(image, _PHOTOMETRIC)[:1] == (0,)


def _flat(image: Image.Image, channels: int, bits: int, path: str | Path) -> Image.Image:
    """The right way up, in grey or colour of 8 bits."""
    depth, inverted = declared_bits(image) or bits or 16, white_is_zero(image)  # which a turned picture no longer says
    turned = _shallow(ImageOps.exif_transpose(image), depth, inverted, path)
    return _to_mode(turned, "L" if channels == 1 else "RGB", path)


def _channels_first(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if image.mode == "L" else pixels.transpose(2, 0, 1)


def _shallow(image: Image.Image, depth: int, inverted: bool, path: str | Path) -> Image.Image:
    """A grey picture of more than 8 bits as one of 8; others as they are. Raises DataError for values beyond `depth` bits."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"cannot read image {path}: its 32-bit values leave 0..65535: convert it to 8 or 16 bits")
    if values.max() >= 2**depth:
        raise DataError(f"cannot read image {path}: it holds {values.max()}, more than {depth} bits can: raise bits, or repair the file")
    if inverted:  # Pillow turns such pictures round at 1 and 8 bits only
        values = 2**depth - 1 - values
    return Image.fromarray((values >> (depth - 8)).astype(np.uint8))


def _tiff_tag(image: Image.Image, tag: int) -> tuple[int, ...]:
    found = getattr(image, "tag_v2", {}).get(tag, ())
    return tuple(found) if isinstance(found, tuple) else (found,)


def _to_mode(image: Image.Image, mode: str, path: str | Path) -> Image.Image:
    if image.mode == "F":
        raise DataError(f"cannot read image {path}: floating-point pixels have no fixed range: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid).convert("RGB")
    return image.convert(mode)
