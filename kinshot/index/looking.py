"""One look at a file, which is read and decoded once: its content's hash, and of a new content the encoder's pixels and a thumbnail."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from kinshot.core.errors import DataError
from kinshot.core.small_files import read_file
from kinshot.datasets.files import digest, regular_file
from kinshot.datasets.images import read_image, squared, upright
from kinshot.samples.pixels import PixelSpec

LARGEST = 2**32
_QUALITY = 80
_CHUNKS = 8
"""Parts of what is looked at ahead, each by one thread: one item at a time would cost more in handing over than a small file does."""
Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen of a file.

    Attributes:
        path: below the folder.
        size: in bytes, -1 where that cannot be said.
        mtime_ns: its time.
        digest: hash of its content; empty where it could not be read at all.
        reason: why it cannot be used; empty where it can.
        pixels: uint8 (C, S, S) for the encoder, None where the content is known.
        thumbnail: a JPEG file.
    """

    path: str
    size: int = -1
    mtime_ns: int = -1
    digest: str = ""
    reason: str = ""
    pixels: np.ndarray | None = None
    thumbnail: bytes = b""


def look(root: Path, path: str, spec: PixelSpec, side: int, known: Callable[[str], bool]) -> Looked:
    """A file of a folder.

    Args:
        root: the folder.
        path: the file below it.
        spec: images that the encoder takes.
        side: of the thumbnail; 0 for none.
        known: whether the feature of a content is there already, so that it need not be decoded.
    """
    file, content = root / path, ""
    size, mtime_ns = -1, -1
    try:
        status = regular_file(file)  # before it is read: who writes to it meanwhile gives it another time
        size, mtime_ns = status.st_size, status.st_mtime_ns
        data = read_file(file, most=LARGEST)
        content = digest(data)
        if known(content):
            return Looked(path, size, mtime_ns, content)
        pixels, thumbnail = decoded(file, data, spec, side)
    except DataError as problem:
        return Looked(path, size, mtime_ns, content, str(problem))
    return Looked(path, size, mtime_ns, content, "", pixels, thumbnail)


def decoded(file: Path, data: bytes, spec: PixelSpec, side: int) -> tuple[np.ndarray, bytes]:
    """Pixels as `load_image` gives them, and a thumbnail of the whole picture. Raises DataError."""

    def convert(image: Image.Image) -> tuple[np.ndarray, bytes]:
        picture = upright(image, spec.channels, file)
        coloured = picture if spec.channels == 3 or not side else upright(image, 3, file)
        return squared(picture, spec.size), _thumbnail(coloured, side) if side else b""

    return read_image(file, convert, content=data)


def _thumbnail(picture: Image.Image, side: int) -> bytes:
    file = io.BytesIO()
    if max(picture.size) > side:
        factor = side / max(picture.size)
        picture = picture.resize(
            (max(1, round(picture.width * factor)), max(1, round(picture.height * factor))), Image.Resampling.BILINEAR, reducing_gap=2.0
        )
    picture.save(file, format="JPEG", quality=_QUALITY)
    return file.getvalue()


def ahead(act: Callable[[Item], Found], items: Sequence[Item], most: int) -> Iterator[Found]:
    """`act` on every item in order, by threads that are up to `most` items ahead of whoever asks."""
    some = max(1, most // _CHUNKS)

    def part(first: int) -> list[Found]:
        return [act(item) for item in items[first : first + some]]

    with ThreadPoolExecutor(min(_CHUNKS, os.cpu_count() or 1)) as pool:
        waiting: deque[Future[list[Found]]] = deque()
        try:
            for first in range(0, len(items), some):
                waiting.append(pool.submit(part, first))
                if len(waiting) >= _CHUNKS:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
