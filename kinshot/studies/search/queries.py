"""Thumbnails of queries, which an index need not have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kinshot.core.small_files import read_file
from kinshot.index.building import THUMBNAILS
from kinshot.index.looking import LARGEST, decoded
from kinshot.samples.pixels import PixelSpec

_SPEC = PixelSpec.square(3, 8, (0.5,) * 3, (0.5,) * 3)


def thumbnails(files: Sequence[Path]) -> list[bytes]:
    """A JPEG file of each image. Raises DataError for one that can no longer be read."""
    return [decoded(file, read_file(file, most=LARGEST), _SPEC, 2 * THUMBNAILS)[1] for file in files]
