"""Whatever a user has for pictures, one by one: files, folders, Pillow's images, arrays, and anything that gives these."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.datasets.images import central_square, framed, load_image
from kinshot.datasets.survey import left_out, say_once, survey
from kinshot.samples.spec import given_as

CHANNELS = (1, 3, 4)
"""How many channels a picture may have: grey, colour, and colour with transparency."""
_OVERSHOOT = 1e-4
"""What rounding may add to a float picture's range of [0, 1]."""
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Shares of red, green and blue in a grey of theirs, those that Pillow converts pictures of bytes by."""
_TAKES = "paths, folders, PIL images, arrays (H, W, C) or (C, H, W), tensors (B, C, H, W), or an iterable of these"


@dataclass(frozen=True)
class Picture:
    """One picture as it was given: a file, an image of Pillow's, or an array of three axes."""

    given: Path | Image.Image | np.ndarray

    def pixels(self, size: int, channels: int, row: int) -> np.ndarray:
        """Its central square, resized: uint8 (channels, size, size), or float32 in [0, 1] of an array of floats.

        Args:
            size: height and width.
            channels: 1 or 3.
            row: which picture it is, for messages.

        Raises:
            DataError: what cannot be read, naming the file, or the row where there is none.
        """
        if isinstance(self.given, Path):
            return load_image(self.given, size, channels)
        if isinstance(self.given, Image.Image):
            return _of_pillow(self.given, size, channels, row)
        values = self.given if channels_last(self.given.shape) else np.moveaxis(self.given, 0, -1)
        return _of_bytes(values, size, channels, row) if values.dtype == np.uint8 else _of_floats(values, size, channels, row)


def pictures(given: Any) -> Iterator[Picture | Tensor]:
    """Every picture of what was given, in its order, and every tensor (B, C, H, W) whole; nothing is decoded or read ahead.

    A folder stands for all images below it, sorted by path; what is left out of it is said.

    Raises:
        DataError: what is no picture, or may be read in two ways; a folder that cannot be read or has no images.
    """
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        yield from map(Picture, _below(path)) if path.is_dir() else [Picture(path)]
    elif isinstance(given, Image.Image):
        yield Picture(given)
    elif isinstance(given, Tensor):
        yield from _of_tensor(given)
    elif isinstance(given, np.ndarray) and given.dtype.kind not in "OUT":
        yield from _of_array(given)
    else:
        for one in _items(given):
            yield from pictures(one)


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last of three axes is that of the channels, and not the first. Raises DataError where both may be, or neither."""
    first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
    if first != last:
        return last
    what = "both its first and its last axis may be the channels" if first else "neither its first nor its last axis has 1, 3 or 4 channels"
    advice = "give it as a tensor (B, C, H, W), or as PIL images" if first else "grey pictures are (H, W, 1), array[..., None]"
    raise DataError(f"a picture of the shape {tuple(shape)} can be read in no one way, as {what}: {advice}")


def _below(folder: Path) -> list[Path]:
    found = survey(folder)
    note = left_out(found, 0, folder)
    if not found.images:
        raise DataError(f"there are no images below the folder {folder}{f' ({note})' if note else ''}: name one that has some")
    if note:
        say_once(note)
    return found.images


def _items(given: Any) -> Iterator[Any]:
    """What an iterable gives. Raises DataError for what is none, and for those whose items are no pictures or have no order."""
    if isinstance(given, Set | Mapping):
        advice = "a set has no order: sort it" if isinstance(given, Set) else "give its values alone"
        raise DataError(f"expected pictures, got {type(given).__name__}: {advice}")
    try:
        if not isinstance(given, bytes | bytearray | memoryview):
            return iter(given)
    except TypeError:
        pass
    of_pairs = "; of pairs (picture, label) give the pictures alone" if np.isscalar(given) or given is None else ""
    raise DataError(f"expected pictures ({_TAKES}), got {type(given).__name__}{of_pairs}")


def _of_tensor(given: Tensor) -> Iterator[Picture | Tensor]:
    if given.ndim == 4 and (given.shape[1] in CHANNELS or given.shape[3] not in CHANNELS):
        yield given  # channels first, as everywhere in torch; whatever else there is to say of it says who takes it
    elif given.ndim in (3, 4):
        values = given.detach().cpu()
        yield from _of_array((values.float() if values.is_floating_point() else values).numpy())
    else:
        raise DataError(f"expected images (B, C, H, W) or one of three axes, got {given_as(given)}")


def _of_array(given: np.ndarray) -> Iterator[Picture]:
    shown = f"{given.dtype} {given.shape}"
    if given.ndim not in (3, 4):
        advice = "grey pictures are (H, W, 1), array[..., None]" if given.ndim == 2 else f"give {_TAKES}"
        raise DataError(f"expected a picture of three axes or a batch of four, got an array {shown}: {advice}")
    if given.dtype != np.uint8 and given.dtype.kind != "f":
        raise DataError(f"pictures must be uint8 or floats in [0, 1], got an array {shown}: convert it with .astype(np.uint8)")
    if 0 in given.shape[-3:]:
        raise DataError(f"expected pictures, got an array without a pixel, {shown}: leave it out")
    if given.ndim == 4 and len(given):
        channels_last(given.shape[1:])  # says it once for all of them
    yield from map(Picture, given if given.ndim == 4 else [given])


def _of_pillow(image: Image.Image, size: int, channels: int, row: int) -> np.ndarray:
    name = str(getattr(image, "filename", "") or f"of row {row}")
    try:
        return framed(image, size, channels, name)
    except DataError:
        raise
    except Exception as error:  # a picture that was only opened is decoded now, and a damaged one makes decoders raise nearly anything
        raise DataError(f"cannot read image {name}: {error or type(error).__name__}: repair or leave out the picture") from error


def _of_bytes(values: np.ndarray, size: int, channels: int, row: int) -> np.ndarray:
    flat = values[..., 0] if values.shape[2] == 1 else values
    return _of_pillow(Image.fromarray(np.ascontiguousarray(flat)), size, channels, row)


def _of_floats(values: np.ndarray, size: int, channels: int, row: int) -> np.ndarray:
    """The same of floats without rounding them to bytes: Pillow resizes planes of floats by the same filter."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not -_OVERSHOOT <= low <= high <= 1 + _OVERSHOOT:  # false for NaN too
        advice = "divide pixels of 0 to 255 by 255, or give them as uint8"
        raise DataError(f"float pictures must lie in [0, 1], got values from {low:g} to {high:g} in row {row}: {advice}")
    if values.shape[2] == 4:
        advice = "give it as uint8, or without its fourth channel"
        raise DataError(f"the picture of row {row} has transparency as floats {values.shape}: {advice}")
    box = central_square(values.shape[1], values.shape[0])
    planes = [Image.fromarray(np.ascontiguousarray(values[..., c], dtype=np.float32)) for c in range(values.shape[2])]
    found = np.stack([np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR, box=box)) for plane in planes])
    if len(found) == 3 and channels == 1:
        return np.einsum("c,chw->hw", _GREY, found)[None]
    return found if len(found) == channels else np.repeat(found, channels, axis=0)
