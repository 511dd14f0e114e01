"""Sources: sets of images with, sometimes, labels. Every source gives uint8 pixels for indices and says what it holds."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError

Indices = np.ndarray | torch.Tensor
_STD_FLOOR = 1e-3
_STATISTICS_CHUNK = 256


class Source(ABC):
    """Images that can be asked for by number.

    Attributes:
        name: what the source is called in messages and reports.
        shape: (C, H, W) of every image.
        labels: int64 (N,), indices into `class_names`, or None for a set without labels. Known without decoding.
        class_names: one name per class; empty without labels.
        in_memory: whether `load` only copies (True) or decodes files (False).
    """

    in_memory: bool = True

    def __init__(self, name: str, shape: tuple[int, int, int], labels: np.ndarray | None, class_names: Sequence[str], count: int) -> None:
        self.name = name
        self.shape = shape
        self.labels, self.class_names = _checked_labels(name, labels, class_names, count)
        self._count = count
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return self._count

    @abstractmethod
    def load(self, indices: Indices) -> torch.Tensor:
        """The images at `indices` (B,): uint8 (B, C, H, W) on the CPU, a fresh tensor. Raises DataError on a bad file."""

    @abstractmethod
    def _content(self) -> Iterable[bytes | np.ndarray]:
        """What identifies the pixels: chunks that are hashed in order."""

    def fingerprint(self) -> str:
        """SHA-256 (hex) of content, shape, labels and class names; computed once per source."""
        if self._fingerprint is None:
            digest = hashlib.sha256(repr((len(self), self.shape, list(self.class_names))).encode())
            digest.update(b"none" if self.labels is None else np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
            for chunk in self._content():
                digest.update(chunk if isinstance(chunk, bytes) else chunk.data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def subset(self, class_ids: Sequence[int]) -> ClassSubset:
        """The images of some classes, relabelled 0..len(class_ids)-1 in the order given. Raises ConfigError on a wrong id."""
        return ClassSubset(self, class_ids)


class ArraySource(Source):
    """Images held in memory.

    Args:
        images: uint8 (N, C, H, W); kept, not copied.
        labels: integers (N,), or None.
        class_names: names that labels index; default "0", "1", ...
        name: used in messages.

    Raises:
        DataError: images that are not uint8 (N, C, H, W), or labels that do not fit.
    """

    def __init__(
        self, images: np.ndarray | torch.Tensor, labels: np.ndarray | None = None, class_names: Sequence[str] = (), name: str = "array"
    ) -> None:
        pixels = torch.as_tensor(images)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise DataError(f"{name}: expected images uint8 (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}: convert them first")
        channels, height, width = pixels.shape[1:]
        super().__init__(name, (channels, height, width), labels, class_names, len(pixels))
        self.images = pixels

    def load(self, indices: Indices) -> torch.Tensor:
        """Copy of the images at `indices`: uint8 (B, C, H, W)."""
        return self.images[torch.as_tensor(indices, dtype=torch.int64)]

    def _content(self) -> Iterable[bytes | np.ndarray]:
        yield self.images.contiguous().numpy()


class FileSource(Source):
    """Images decoded from files when asked for: for sets too big for memory.

    Args:
        paths: one file per image, below `root`.
        root: folder that the fingerprint's paths are relative to.
        decode: path to uint8 (C, H, W); picklable, so that loader processes can have it.
        shape: (C, H, W) that `decode` gives.
        labels: integers (N,), or None.
        class_names: names that labels index.
        name: used in messages.
    """

    in_memory = False

    def __init__(
        self,
        paths: Sequence[Path],
        root: Path,
        decode: Callable[[Path], np.ndarray],
        shape: tuple[int, int, int],
        labels: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        name: str = "files",
    ) -> None:
        super().__init__(name, shape, labels, class_names, len(paths))
        self.paths = list(paths)
        self.root = root
        self.decode = decode

    def load(self, indices: Indices) -> torch.Tensor:
        """Decode the images at `indices`: uint8 (B, C, H, W). Raises DataError naming a file that cannot be read."""
        chosen = np.asarray(indices, dtype=np.int64)
        batch = np.empty((len(chosen), *self.shape), dtype=np.uint8)
        for row, index in enumerate(chosen):
            batch[row] = self.decode(self.paths[index])
        return torch.from_numpy(batch)

    def _content(self) -> Iterable[bytes | np.ndarray]:
        yield listing_bytes(self.paths, self.root)


class ClassSubset(Source):
    """Some classes of another source, relabelled; made by `Source.subset`."""

    def __init__(self, parent: Source, class_ids: Sequence[int]) -> None:
        ids = [int(c) for c in class_ids]
        if parent.labels is None:
            raise ConfigError(f"{parent.name} has no labels: a subset of classes needs a labelled source")
        if not ids or len(set(ids)) != len(ids) or not all(0 <= c < len(parent.class_names) for c in ids):
            raise ConfigError(f"{parent.name}: class_ids must be different numbers in 0..{len(parent.class_names) - 1}, got {ids}")
        relabel = np.full(len(parent.class_names), -1, dtype=np.int64)
        relabel[ids] = np.arange(len(ids))
        labels = relabel[parent.labels]
        self.parent = parent
        self.indices = np.flatnonzero(labels >= 0)
        names = [parent.class_names[c] for c in ids]
        super().__init__(parent.name, parent.shape, labels[self.indices], names, len(self.indices))
        self.in_memory = parent.in_memory

    def load(self, indices: Indices) -> torch.Tensor:
        """The parent's images for this subset's `indices`: uint8 (B, C, H, W)."""
        return self.parent.load(self.indices[np.asarray(indices, dtype=np.int64)])

    def _content(self) -> Iterable[bytes | np.ndarray]:
        yield self.parent.fingerprint().encode()
        yield np.ascontiguousarray(self.indices)


def listing_bytes(paths: Sequence[Path], root: Path) -> bytes:
    """Relative path, size and modification time of each file, one per line. Raises DataError naming a missing file."""
    lines = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}: put the file back or rebuild the source") from error
        lines.append(f"{path.relative_to(root).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def pixel_statistics(source: Source, limit: int = 2048) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels, in [0, 1], per channel, over up to `limit` evenly spaced images.

    The standard deviation is at least 1e-3, so that dividing by it is safe for a set of constant images.
    """
    if len(source) == 0:
        raise DataError(f"{source.name} holds no images: nothing to measure")
    chosen = np.unique(np.linspace(0, len(source) - 1, min(limit, len(source))).astype(np.int64))
    total, squares, pixels = torch.zeros(source.shape[0]).double(), torch.zeros(source.shape[0]).double(), 0
    for start in range(0, len(chosen), _STATISTICS_CHUNK):
        batch = source.load(chosen[start : start + _STATISTICS_CHUNK]).double() / 255
        total = total + batch.sum(dim=(0, 2, 3))
        squares = squares + batch.square().sum(dim=(0, 2, 3))
        pixels += batch.shape[0] * batch.shape[2] * batch.shape[3]
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp_min(0).sqrt().clamp_min(_STD_FLOOR)
    return tuple(mean.tolist()), tuple(std.tolist())


def _checked_labels(name: str, labels: np.ndarray | None, class_names: Sequence[str], count: int) -> tuple[np.ndarray | None, list[str]]:
    if labels is None:
        if class_names:
            raise DataError(f"{name}: class names without labels: give both or neither")
        return None, []
    found = np.asarray(labels)
    if found.shape != (count,) or (count and found.dtype.kind not in "iu"):
        raise DataError(f"{name}: expected {count} integer labels, got {found.dtype} {found.shape}: one label per image")
    found = found.astype(np.int64)
    names = list(class_names) or [str(c) for c in range(int(found.max(initial=-1)) + 1)]
    if count and not (found.min() >= 0 and found.max() < len(names)):
        raise DataError(f"{name}: labels run from {found.min()} to {found.max()} but there are {len(names)} class names")
    return found, names
