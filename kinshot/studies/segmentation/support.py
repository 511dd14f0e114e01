"""What the masks of a support show, read and checked before any model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.images import size_of_image
from kinshot.datasets.mask_files import read_mask
from kinshot.samples.class_map import IGNORE
from kinshot.studies.segmentation.shots import Shot, check_there


@dataclass(frozen=True)
class MarkedShot:
    """A shot, and where its object is.

    Args:
        shot: the image and its mask.
        where: int64 (H, W), as large as the image: 1 the object, 0 background, 255 nothing.
    """

    shot: Shot
    where: np.ndarray


def read_support(shots: Sequence[Sequence[Shot]], *, binary: bool = False) -> list[list[MarkedShot]]:
    """The masks of the shots of each way.

    Args:
        shots: of each way, equally many; at least one.
        binary: masks are 0 and 1, or 0 and 255, whose 255 is foreground.

    Raises:
        ConfigError: ways of different numbers of shots.
        DataError: an image or a mask that cannot be read, does not fit the other, or shows nothing.
    """
    counts = [len(way) for way in shots]
    if not counts or min(counts) < 1 or len(set(counts)) > 1:
        raise ConfigError(f"--support: every way needs as many images as the others, at least one, got {counts}")
    return [[_marked(shot, binary) for shot in way] for way in shots]


def _marked(shot: Shot, binary: bool) -> MarkedShot:
    check_there(shot.image, "the image of --support")
    check_there(shot.mask, "the mask of --support")
    size = size_of_image(shot.image)[:2]
    where = _own_pixels(read_mask(shot.mask, binary=binary), shot)
    if where.shape != size:
        sizes = [" x ".join(map(str, shape)) for shape in (where.shape, size)]
        raise DataError(f"mask {shot.mask} has {sizes[0]} pixels, its image {shot.image} {sizes[1]}: give the mask of this image")
    return MarkedShot(shot, where)


def _own_pixels(values: np.ndarray, shot: Shot) -> np.ndarray:
    """A mask's numbers as 1 where the shot's object is, 255 where nothing is said, 0 elsewhere: int64 (H, W).

    Raises DataError for a mask without that object, or with several of which none was named.
    """
    held = [value for value in np.unique(values).tolist() if value not in (0, IGNORE)]
    if shot.value in (0, IGNORE):
        remedy = "name an object's number" + (", or add --binary if 255 is the object" if shot.value == IGNORE else "")
        meaning = "background" if shot.value == 0 else "what nobody says anything of"
        raise DataError(f"{shot.image}:{shot.mask}:{shot.value} asks for {meaning}, which is no object: {remedy}")
    if shot.value is not None and shot.value not in held:
        raise DataError(f"mask {shot.mask} holds no {shot.value}, but {_listed(held, values)}: name one of these behind the mask")
    if not held:
        remedy = "; if 255 is the object, add --binary" if IGNORE in values else ": give a mask that shows what to look for"
        raise DataError(f"mask {shot.mask} has no foreground, it holds {_listed(held, values)}{remedy}")
    if shot.value is None and len(held) > 1:
        raise DataError(
            f"mask {shot.mask} holds several objects, {_listed(held, values)}: say which is meant, {shot.image}:{shot.mask}:{held[0]}"
        )
    wanted = held[0] if shot.value is None else shot.value
    return np.where(values == wanted, 1, np.where(values == IGNORE, IGNORE, 0)).astype(np.int64)


def _listed(held: Sequence[int], values: np.ndarray) -> str:
    known = [0] * bool((values == 0).any()) + list(held)[:8] + [IGNORE] * bool((values == IGNORE).any())
    return ", ".join(map(str, known))
