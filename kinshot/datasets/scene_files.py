"""Scenes whose pictures and class maps lie in files: looked through once, decoded when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.datasets.base import Indices
from kinshot.datasets.cache import read_arrays, write_arrays
from kinshot.datasets.files import content_digests, content_listing, digest
from kinshot.datasets.frames import Frame
from kinshot.datasets.identity import Chunk
from kinshot.datasets.images import TURNED_SIDEWAYS, failures, load_whole, size_of_image, told
from kinshot.datasets.scenes import IMAGE, Scenes
from kinshot.samples.class_map import IGNORE

_CHANNELS = 3
# Raise when what a scan finds, or refuses, changes.
_VERSION = 2


class Masks(Protocol):
    """Class maps, one for each sample, as numbers of a data set's own; picklable. `kinshot.datasets.mask_files.MaskFiles` reads files."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> np.ndarray:
        """The numbers in a sample's class map: uint8 (H, W), 0 for background, 255 where it says nothing. Raises DataError."""

    def where(self, row: int) -> str:
        """What to call a sample's class map in messages."""

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """A hash of what each class map is made from, bytes (B,)."""

    def settings(self) -> str:
        """What beside its content decides what is read."""

    def take(self, rows: np.ndarray) -> Masks:
        """Those of some samples."""


@dataclass(frozen=True)
class Scan:
    """What pictures and class maps hold, found by reading every one of the maps.

    Args:
        sizes: height and width of each sample, int64 (N, 2).
        values: numbers that occur in class maps, ascending, int64 (V,).
        counts: how many pixels of a map have each of them, int64 (N, V).
        framed: how many pixels of a map in its square have, int64 (N, V).
    """

    sizes: np.ndarray
    values: np.ndarray
    counts: np.ndarray
    framed: np.ndarray

    def pixels(self, value: int) -> np.ndarray:
        """How many pixels of a number each map holds, int64 (N,)."""
        return self._column(self.counts, value)

    def shows(self, value: int, min_area: int) -> np.ndarray:
        """Which samples count as pictures of a number's class, bool (N,): with so many pixels of it, of which some are in the square."""
        return (self.pixels(value) >= max(1, min_area)) & (self._column(self.framed, value) > 0)

    def vanished(self, value: int, min_area: int) -> np.ndarray:
        """In which samples a number's class has so many pixels, and none in the square, bool (N,)."""
        return (self.pixels(value) >= max(1, min_area)) & (self._column(self.framed, value) == 0)

    def first(self, value: int) -> int:
        """The first sample whose map holds a number that occurs."""
        return int((self.pixels(value) > 0).argmax())

    def take(self, rows: np.ndarray) -> Scan:
        """That of some samples."""
        return Scan(self.sizes[rows], self.values, self.counts[rows], self.framed[rows])

    def _column(self, counts: np.ndarray, value: int) -> np.ndarray:
        place = np.flatnonzero(self.values == value)
        return counts[:, place[0]] if len(place) else np.zeros(len(counts), dtype=np.int64)


def scan(pictures: Sequence[Path], masks: Masks, root: Path, frame: Frame) -> Scan:
    """Look through pictures and their class maps; what was found is kept in the cache under their contents.

    Raises:
        DataError: maps that cannot be read, or that do not fit their pictures: all such at once, up to ten with their words.
    """
    every = np.arange(len(pictures))
    content = content_listing(pictures, root) + b"".join(masks.digests(every).tolist()) + f"{masks.settings()} {frame!r}".encode()
    key = f"scenes/{digest(content)}-{_VERSION}"
    kept = read_arrays(key)
    if kept is not None:
        return Scan(kept["sizes"], kept["values"], kept["counts"], kept["framed"])
    sizes = np.zeros((len(pictures), 2), dtype=np.int64)
    counts, framed = (np.zeros((len(pictures), IGNORE + 1), dtype=np.int32) for _ in range(2))

    def look(row: int) -> None:
        values = masks.read(row)
        sizes[row] = _agreed(pictures[row], masks.where(row), values.shape)
        counts[row] = np.bincount(values.reshape(-1), minlength=IGNORE + 1)
        framed[row] = np.bincount(frame.mask(torch.from_numpy(values), IGNORE).numpy().reshape(-1), minlength=IGNORE + 1)

    failed = failures(len(pictures), look)
    if failed:
        raise DataError(told(failed, len(pictures)))
    values = np.flatnonzero(counts.any(axis=0))
    found = Scan(sizes, values, counts[:, values].astype(np.int64), framed[:, values].astype(np.int64))
    write_arrays(key, {"sizes": found.sizes, "values": found.values, "counts": found.counts, "framed": found.framed})
    return found


def _agreed(picture: Path, mask: str, found: tuple[int, ...]) -> tuple[int, int]:
    """The size that a picture and its class map have in common. Raises DataError."""
    height, width, turn = size_of_image(picture)
    stored = (width, height) if turn in TURNED_SIDEWAYS else (height, width)
    given = f"{picture} has {width} x {height} pixels and its mask {mask} {found[1]} x {found[0]}"
    remedy = "turn the picture's pixels for good, as the mask's are, and save it without that mark"
    if turn != 1 and found == stored:
        # the mask lies as the picture is stored, or nothing tells whether it does
        raise DataError(f"{given}, and the picture is marked to be turned (EXIF orientation {turn}) before it is shown: {remedy}")
    if found != (height, width):
        raise DataError(f"{given}: give each picture its own mask, made at its size; masks are never resized to fit")
    return height, width


class FileScenes(Scenes):
    """Scenes that are decoded from files, into memory at once or when asked for.

    Args:
        name: used in messages.
        frame: the square that they are brought into.
        pictures: the file of each.
        masks: their class maps.
        root: folder that the pictures are below.
        found: what a scan found of them.
        own: numbers of the classes that episodes are made of, with their names, in order.
        ignored: numbers of pixels that nobody is asked about; those that are neither this nor own, but for 0, are `other`.
        min_area: pixels of a class, at the picture's own size, from which on the picture counts as one of it, if the square shows any.
        photos: see `Scenes`.
        in_memory_mib: decode once into memory when the set needs no more than this.
        more: what every source can say of its samples.
    """

    def __init__(
        self, name: str, frame: Frame, pictures: Sequence[Path], masks: Masks, root: Path, found: Scan, own: Mapping[int, str],
        ignored: Iterable[int] = (), min_area: int = 1, photos: np.ndarray | None = None, in_memory_mib: int = 1024, **more: Any,
    ) -> None:  # fmt: skip
        columns = [found.shows(value, min_area) for value in own]
        contains = np.stack(columns, axis=1) if columns else np.zeros((len(pictures), 0), dtype=bool)
        super().__init__(name, frame, _CHANNELS, list(own.values()), contains, photos, found.sizes, **more)
        self.files = self.pictures = list(pictures)
        self.masks, self.root = masks, root
        self.means = _meanings(list(own), ignored, self.other)
        self._images: Tensor | None = None
        self._maps: Tensor | None = None
        self.in_memory = len(pictures) * (_CHANNELS + 1) * frame.size**2 <= in_memory_mib * 2**20
        if self.in_memory:
            self._keep()

    def native_image(self, row: int) -> Tensor:
        """The image of a sample at its own size. Raises DataError."""
        return torch.from_numpy(np.ascontiguousarray(load_whole(self.pictures[row], _CHANNELS)))

    def native_mask(self, row: int) -> Tensor:
        """The class map of a sample at its own size. Raises DataError."""
        values = self.masks.read(row)
        if values.shape != tuple(self.sizes[row].tolist()):
            raise DataError(f"{self.masks.where(row)} has changed since it was looked through: begin again")
        return torch.from_numpy(self.means[values]).long()

    def digests(self, indices: Indices) -> np.ndarray:
        """A hash of each sample's files and of what their numbers mean, bytes (B,). Raises DataError naming a file that is gone."""
        rows = np.asarray(indices, dtype=np.int64)
        pictures = content_digests([self.pictures[row] for row in rows.tolist()], self.root).tolist()
        maps = self.masks.digests(rows).tolist()
        rule = self.means.tobytes() + self.masks.settings().encode()
        return np.array([digest(one + other + rule) for one, other in zip(pictures, maps, strict=True)], dtype="S32")

    def _load(self, rows: np.ndarray, field: str) -> Tensor:
        kept = self._images if field == IMAGE else self._maps
        if kept is None:
            return super()._load(rows, field)
        return kept[torch.from_numpy(rows)] if field == IMAGE else kept[torch.from_numpy(rows)].long()

    def _keep(self) -> None:
        """Every sample decoded. Raises DataError naming all that cannot be."""
        side, count = self.frame.size, len(self)
        images, maps = torch.empty((count, _CHANNELS, side, side), dtype=torch.uint8), torch.empty((count, side, side), dtype=torch.uint8)

        def decode(row: int) -> None:
            images[row] = self.frame.image(self.native_image(row))
            maps[row] = self.frame.mask(self.native_mask(row), IGNORE)

        failed = failures(count, decode)
        if failed:
            raise DataError(told(failed, count))
        self._images, self._maps = images, maps

    def _content(self) -> Iterable[Chunk]:
        yield repr(self.frame).encode()
        yield content_listing(self.pictures, self.root)
        yield b"".join(self.masks.digests(np.arange(len(self))).tolist())
        yield self.masks.settings().encode()
        yield self.means


def _meanings(own: Sequence[int], ignored: Iterable[int], other: int) -> np.ndarray:
    """What each number of a class map stands for in `Scenes`: uint8 (256,)."""
    means = np.full(IGNORE + 1, other, dtype=np.uint8)
    means[0] = 0
    means[list(ignored)] = IGNORE
    means[IGNORE] = IGNORE
    means[list(own)] = np.arange(1, len(own) + 1)
    return means
