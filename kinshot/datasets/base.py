"""Sources: sets of samples with, sometimes, labels. Every source gives samples for indices and says what it holds."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.files import content_digests, content_listing, dated_listing, digest
from kinshot.datasets.labels import checked_attributes, checked_labels

if TYPE_CHECKING:
    from kinshot.kin.graph import RelationGraph

Indices = np.ndarray | torch.Tensor


class Source(ABC):
    """Samples of one kind that can be asked for by number.

    Attributes:
        kind: "image" (uint8 (C, H, W)), "features" (float32 (F,)) or "tokens" (uint8 or int64 (L,), 0 is padding).
        name: what the source is called in messages and reports.
        shape: shape of every sample.
        labels: int64 (N,), indices into `class_names`, or None for a set without labels. Known without decoding.
        class_names: one name per class; empty without labels.
        attributes: further labels by name, each int64 (N,) with -1 for unknown.
        attribute_names: for each attribute the names of its values.
        graph: which samples are kin, where the source itself knows; N nodes in the order of the samples.
        alphabet: characters of a token source in the order of their ids, which start at 3; else empty.
        in_memory: whether `load` only copies (True) or decodes files (False).
        files: the file that each sample was read from, where each has one of its own; else None.
        notes: what a person should know of how it came about, a line each: what was left out.
    """

    kind: str = "image"
    files: Sequence[Path] | None = None
    notes: Sequence[str] = ()
    alphabet: str = ""
    in_memory: bool = True

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        labels: np.ndarray | None,
        class_names: Sequence[str],
        count: int,
        *,
        attributes: Mapping[str, np.ndarray] | None = None,
        attribute_names: Mapping[str, Sequence[str]] | None = None,
        graph: RelationGraph | None = None,
    ) -> None:
        self.name = name
        self.shape = shape
        self.labels, self.class_names = checked_labels(name, labels, class_names, count)
        self.attributes, self.attribute_names = checked_attributes(name, attributes, attribute_names, count)
        if graph is not None and graph.n != count:
            raise DataError(f"{name}: the graph has {graph.n} nodes for {count} samples: one node to a sample, in their order")
        self.graph = graph
        self._count = count
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return self._count

    @abstractmethod
    def load(self, indices: Indices) -> torch.Tensor:
        """The samples at `indices` (B,): (B, *shape) on the CPU, a fresh tensor. Raises DataError on a bad file."""

    @abstractmethod
    def _content(self) -> Iterable[bytes | np.ndarray]:
        """What identifies the samples: chunks that are hashed in order."""

    def digests(self, indices: Indices) -> np.ndarray:
        """A hash of each sample's content, bytes (B,): equal where samples are equal."""
        parts = torch.as_tensor(indices, dtype=torch.int64).split(1024)
        return np.array([digest(sample.tobytes()) for part in parts for sample in self.load(part).numpy()], dtype="S32")

    def fingerprint(self) -> str:
        """SHA-256 (hex) of content, shape, all labels and names, and the graph; computed once per source."""
        if self._fingerprint is None:
            self._fingerprint = self._fingerprint_of(self._content())
        return self._fingerprint

    def known_as(self, fingerprint: str) -> bool:
        """Whether `fingerprint` is that of these samples."""
        return fingerprint == self.fingerprint()

    def _fingerprint_of(self, content: Iterable[bytes | np.ndarray]) -> str:
        found = hashlib.sha256(repr((len(self), self.shape, list(self.class_names))).encode())
        found.update(b"none" if self.labels is None else np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        for chunk in content:
            found.update(chunk if isinstance(chunk, bytes) else chunk.data)
        # what is left out at its default keeps the fingerprints, and so the checkpoints, of sources without it
        for chunk in self._further():
            found.update(chunk)
        return found.hexdigest()

    def _further(self) -> Iterable[bytes]:
        if self.kind != "image":
            yield repr((self.kind, self.alphabet)).encode("utf-8", "surrogatepass")
        for key in sorted(self.attributes):
            yield repr((key, self.attribute_names[key])).encode("utf-8", "surrogatepass")
            yield np.ascontiguousarray(self.attributes[key], dtype="<i8").tobytes()
        if self.graph is not None:
            g = self.graph
            yield from _leaves((g.n, g.directed, g.layers, g.layer_weights, g.negatives, g.groups))

    def subset(self, class_ids: Sequence[int]) -> ClassSubset:
        """The samples of some classes, relabelled 0..len(class_ids)-1 in the order given. Raises ConfigError on a wrong id."""
        return ClassSubset(self, class_ids)


class ArraySource(Source):
    """Images held in memory.

    Args:
        images: uint8 (N, C, H, W); kept, not copied.
        labels: integers (N,), or None.
        class_names: names that labels index; default "0", "1", ...
        name: used in messages.
        files: the file of each image, where each has its own.
        more: `attributes`, `attribute_names` and `graph` of every source.

    Raises:
        DataError: images that are not uint8 (N, C, H, W), or labels that do not fit.
    """

    def __init__(
        self,
        images: np.ndarray | torch.Tensor,
        labels: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        name: str = "array",
        files: Sequence[Path] | None = None,
        **more: Any,
    ) -> None:
        pixels = torch.as_tensor(images)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise DataError(f"{name}: expected images uint8 (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}: convert them first")
        channels, height, width = pixels.shape[1:]
        super().__init__(name, (channels, height, width), labels, class_names, len(pixels), **more)
        self.images, self.files = pixels, files

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
        more: `attributes`, `attribute_names` and `graph` of every source.
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
        **more: Any,
    ) -> None:
        super().__init__(name, shape, labels, class_names, len(paths), **more)
        self.paths = self.files = list(paths)
        self.root = root
        self.decode = decode

    def load(self, indices: Indices) -> torch.Tensor:
        """Decode the images at `indices`: uint8 (B, C, H, W). Raises DataError naming a file that cannot be read."""
        chosen = np.asarray(indices, dtype=np.int64)
        batch = np.empty((len(chosen), *self.shape), dtype=np.uint8)
        for row, index in enumerate(chosen):
            batch[row] = self.decode(self.paths[index])
        return torch.from_numpy(batch)

    def digests(self, indices: Indices) -> np.ndarray:
        """A hash of each image's file, bytes (B,), without decoding it. Raises DataError naming a file that cannot be read."""
        return content_digests([self.paths[index] for index in np.asarray(indices)], self.root)

    def known_as(self, fingerprint: str) -> bool:
        """Also by the rule of version 0.1.0, which knew files by their sizes and times."""
        return super().known_as(fingerprint) or fingerprint == self._fingerprint_of([dated_listing(self.paths, self.root)])

    def _content(self) -> Iterable[bytes | np.ndarray]:
        yield content_listing(self.paths, self.root)


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
        super().__init__(
            parent.name,
            parent.shape,
            labels[self.indices],
            names,
            len(self.indices),
            attributes={key: values[self.indices] for key, values in parent.attributes.items()},
            attribute_names=parent.attribute_names,
            graph=None if parent.graph is None else parent.graph.subgraph(self.indices),
        )
        self.kind, self.alphabet, self.in_memory = parent.kind, parent.alphabet, parent.in_memory
        self.files = None if parent.files is None else [parent.files[index] for index in self.indices.tolist()]

    def load(self, indices: Indices) -> torch.Tensor:
        """The parent's samples for this subset's `indices`: (B, *shape)."""
        return self.parent.load(self.indices[np.asarray(indices, dtype=np.int64)])

    def digests(self, indices: Indices) -> np.ndarray:
        """The parent's hashes for this subset's `indices`."""
        return self.parent.digests(self.indices[np.asarray(indices, dtype=np.int64)])

    def _content(self) -> Iterable[bytes | np.ndarray]:
        yield self.parent.fingerprint().encode()
        yield np.ascontiguousarray(self.indices)


def _leaves(value: Any) -> Iterable[bytes]:
    """What a graph is made of, as bytes: arrays whatever the width of their integers, mappings by name, dataclasses by field."""
    if isinstance(value, np.ndarray):
        yield repr(value.shape).encode()
        yield np.ascontiguousarray(value, dtype="<i8" if value.dtype.kind in "iub" else "<f4").tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves((key, value[key]))
    elif is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        # what is no array is a remark, whose wording may change
        yield from _leaves({name: part for name, part in parts.items() if isinstance(part, np.ndarray) or is_dataclass(part)})
    elif isinstance(value, tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield repr(value).encode()
