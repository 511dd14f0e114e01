"""Sources: sets of samples with, sometimes, labels. Every source gives samples for indices and says what it holds."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.datasets.files import content_digests, content_listing, dated_listing, digest
from kinshot.datasets.identity import Chunk, identity
from kinshot.datasets.labels import Clock, SamplePairs, checked_attributes, checked_clock, checked_labels, checked_present
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec, input_of

if TYPE_CHECKING:
    from kinshot.kin.graph import RelationGraph

Indices = np.ndarray | torch.Tensor | Sequence[int]


class Source(ABC):
    """Samples of one or several fields that can be asked for by number.

    A field is what a sample holds of one kind: its picture, its text, one of its sensors, its mask. Most sources have one, which then is
    called by its kind, and give tensors; those of several give a tensor for each.

    Attributes:
        fields: what the samples of each field are (`kinshot.samples`), before any is loaded: without their mean and spread.
        name: what the source is called in messages and reports.
        labels: int64 (N,), indices into `class_names`, or None for a set without labels. Known without decoding, as all that follows.
        class_names: one name per class; empty without labels.
        attributes: further labels by name: int64 (N,) with -1 for unknown; several that a sample can have, bool (N, L), or int64 (N, L) of
            1, 0 and -1 for unknown; or measured values, float64 (N,) with NaN for unknown.
        attribute_names: for each attribute the names of its values, or of its L labels; none for measured values.
        present: for each field that some samples lack, bool (N,): which have it. Where a field is absent, what is loaded means nothing.
        clock: when samples were taken and in which recording, or None: what streams of sensors are cut and aligned by.
        contains: bool (N, C), which of the classes a sample holds where it holds several, as a mask does, or None: what dense episodes
            are drawn by without decoding a mask.
        graph: which samples are kin, where the source itself knows; N nodes in the order of the samples.
        in_memory: whether `load` only copies (True) or decodes files (False).
        files: the file that each sample was read from, where each has one of its own; else None.
        pairs: which samples verification compares, where the data says so, else None.
        notes: what a person should know of how it came about, a line each: what was left out.
    """

    files: Sequence[Path] | None = None
    pairs: SamplePairs | None = None
    notes: Sequence[str] = ()
    in_memory: bool = True

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Spec] | Spec,
        labels: np.ndarray | None,
        class_names: Sequence[str],
        count: int,
        *,
        attributes: Mapping[str, np.ndarray] | None = None,
        attribute_names: Mapping[str, Sequence[str]] | None = None,
        present: Mapping[str, np.ndarray] | None = None,
        clock: tuple[np.ndarray, np.ndarray] | None = None,
        contains: np.ndarray | None = None,
        graph: RelationGraph | None = None,
    ) -> None:
        self.name = name
        self.fields: Mapping[str, Spec] = {fields.kind: fields} if isinstance(fields, Spec) else dict(fields)
        self.labels, self.class_names, self.contains = checked_labels(name, labels, class_names, contains, count)
        self.attributes, self.attribute_names = checked_attributes(name, attributes, attribute_names, count)
        self.present = checked_present(name, present, self.fields, count)
        self.clock: Clock | None = checked_clock(name, clock, count)
        if graph is not None and graph.n != count:
            raise DataError(f"{name}: the graph has {graph.n} nodes for {count} samples: one node to a sample, in their order")
        self.graph = graph
        self._count = count
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def field(self) -> str:
        """The name of the only field. Raises DataError where there are several."""
        if len(self.fields) != 1:
            raise DataError(f"{self.name} has the fields {', '.join(self.fields)}: say which, with only(field) or load(indices, fields)")
        return next(iter(self.fields))

    @property
    def spec(self) -> Spec:
        """What the samples of the only field are. Raises DataError where there are several."""
        return self.fields[self.field]

    @property
    def kind(self) -> str:
        """Kind of the samples of the only field: "image" (uint8 (C, H, W)), "features" (float32 (F,)), "series" (float32 (C, T)), ..."""
        return self.spec.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every sample of the only field."""
        return self.spec.shape

    @property
    def categories(self) -> dict[str, np.ndarray]:
        """The attributes of which every sample has one value at most: int64 (N,) by name."""
        return {key: values for key, values in self.attributes.items() if values.ndim == 1 and values.dtype.kind == "i"}

    @overload
    def load(self, indices: Indices, fields: None = None) -> torch.Tensor: ...
    @overload
    def load(self, indices: Indices, fields: Iterable[str]) -> dict[str, torch.Tensor]: ...
    def load(self, indices: Indices, fields: Iterable[str] | None = None) -> torch.Tensor | dict[str, torch.Tensor]:
        """The samples at `indices` (B,): (B, *shape) on the CPU, a fresh tensor; with `fields`, such tensors by field.

        Raises:
            DataError: a bad file, or several fields of which none was named.
            ConfigError: a field that the source does not have.
        """
        rows = np.asarray(indices, dtype=np.int64)
        if fields is None:
            return self._load(rows, self.field)
        wanted = list(fields)
        for name in wanted:
            if name not in self.fields:
                raise ConfigError(f"{self.name} has no field {name!r}: {suggest(name, self.fields)}")
        return {name: self._load(rows, name) for name in wanted}

    @abstractmethod
    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        """The samples of a field at int64 `rows` (B,): a fresh tensor (B, *shape) on the CPU. Raises DataError on a bad file."""

    @abstractmethod
    def _content(self) -> Iterable[Chunk]:
        """What identifies the samples: chunks that are hashed in order."""

    def digests(self, indices: Indices) -> np.ndarray:
        """A hash of each sample's content, bytes (B,): equal where samples are equal."""
        found = []
        for part in torch.as_tensor(indices, dtype=torch.int64).split(1024):
            columns = [values.numpy() for values in self.load(part, self.fields).values()]
            found += [digest(b"".join(column[row].tobytes() for column in columns)) for row in range(len(part))]
        return np.array(found, dtype="S32")

    def fingerprint(self) -> str:
        """SHA-256 (hex) of content, shape, all labels and names, and the graph; computed once per source."""
        if self._fingerprint is None:
            self._fingerprint = self._fingerprint_of(self._content())
        return self._fingerprint

    def known_as(self, fingerprint: str) -> bool:
        """Whether `fingerprint` is that of these samples."""
        return fingerprint == self.fingerprint()

    def _fingerprint_of(self, content: Iterable[Chunk]) -> str:
        found = hashlib.sha256()
        for chunk in identity(self, content):
            found.update(chunk if isinstance(chunk, bytes) else chunk.data)
        return found.hexdigest()

    def said(self) -> list[str]:
        """What is to be said before it is used, with its name in front, of `notes` that were not said when it was built."""
        return []

    def beside(self, rows: np.ndarray) -> dict[str, Any]:
        """What is known of the samples at `rows` beside their classes, as keywords for a source of them; the graph is no part of it."""
        return {
            "attributes": {key: values[rows] for key, values in self.attributes.items()},
            "attribute_names": self.attribute_names,
            "present": {key: values[rows] for key, values in self.present.items()},
            "clock": None if self.clock is None else tuple(values[rows] for values in self.clock),
            "contains": None if self.contains is None else self.contains[rows],
        }

    def subset(self, class_ids: Sequence[int]) -> Source:
        """The samples of some classes, relabelled 0..len(class_ids)-1 in the order given. Raises ConfigError on a wrong id."""
        ids = [int(c) for c in class_ids]
        if self.labels is None or self.contains is not None:
            raise ConfigError(f"{self.name} has no labels: a subset of classes needs a source with one label to a sample")
        if not ids or len(set(ids)) != len(ids) or not all(0 <= c < len(self.class_names) for c in ids):
            raise ConfigError(f"{self.name}: class_ids must be different numbers in 0..{len(self.class_names) - 1}, got {ids}")
        relabel = np.full(len(self.class_names), -1, dtype=np.int64)
        relabel[ids] = np.arange(len(ids))
        labels = relabel[self.labels]
        rows = np.flatnonzero(labels >= 0)
        return _Part(self, rows, self.fields, labels[rows], [self.class_names[c] for c in ids])

    def relabelled(self, labels: np.ndarray) -> Self:
        """The same samples with other labels, of the same classes. Raises DataError where they do not fit."""
        other = copy(self)
        other.labels, other.class_names, other.contains = checked_labels(self.name, labels, self.class_names, self.contains, len(self))
        other._fingerprint = None
        return other

    def only(self, field: str) -> Source:
        """The source of one field, and of the samples that have it, which are tensors. Raises ConfigError for an unknown field."""
        if field not in self.fields:
            raise ConfigError(f"{self.name} has no field {field!r}: {suggest(field, self.fields)}")
        if len(self.fields) == 1:
            return self
        rows = np.flatnonzero(self.present[field]) if field in self.present else np.arange(len(self))
        labels = None if self.labels is None else self.labels[rows]
        return _Part(self, rows, {field: self.fields[field]}, labels, self.class_names)

    def inputs(self) -> dict[str, Spec]:
        """What the samples of each field are, with their mean and spread over the samples that have it."""
        return {field: input_of(self.only(field)) for field in self.fields}


class ArraySource(Source):
    """Images held in memory.

    Args:
        images: uint8 (N, C, H, W); kept, not copied.
        labels: integers (N,), or None.
        class_names: names that labels index; default "0", "1", ...
        name: used in messages.
        files: the file of each image, where each has its own.
        more: what every source can say of its samples: `attributes`, `clock`, `graph`, ....

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
        super().__init__(name, PixelSpec.unmeasured(pixels.shape[1:]), labels, class_names, len(pixels), **more)
        self.images, self.files = pixels, files

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        return self.images[torch.from_numpy(rows)]

    def _content(self) -> Iterable[Chunk]:
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
        more: what every source can say of its samples: `attributes`, `clock`, `graph`, ....
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
        super().__init__(name, PixelSpec.unmeasured(shape), labels, class_names, len(paths), **more)
        self.paths = self.files = list(paths)
        self.root = root
        self.decode = decode

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        batch = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for place, row in enumerate(rows):
            batch[place] = self.decode(self.paths[row])
        return torch.from_numpy(batch)

    def digests(self, indices: Indices) -> np.ndarray:
        """A hash of each image's file, bytes (B,), without decoding it. Raises DataError naming a file that cannot be read."""
        return content_digests([self.paths[index] for index in np.asarray(indices)], self.root)

    def known_as(self, fingerprint: str) -> bool:
        """Also by the rule of version 0.1.0, which knew files by their sizes and times."""
        return super().known_as(fingerprint) or fingerprint == self._fingerprint_of([dated_listing(self.paths, self.root)])

    def _content(self) -> Iterable[Chunk]:
        yield content_listing(self.paths, self.root)


class _Part(Source):
    """Some samples, and some fields, of another source, perhaps relabelled; made by `Source.subset` and `Source.only`."""

    def __init__(
        self, parent: Source, rows: np.ndarray, fields: Mapping[str, Spec], labels: np.ndarray | None, class_names: Sequence[str]
    ) -> None:
        beside = parent.beside(rows)
        if len(fields) == 1:
            beside["present"] = {}  # samples without it are not among the rows
        graph = None if parent.graph is None else parent.graph.subgraph(rows)
        super().__init__(parent.name, fields, labels, class_names, len(rows), graph=graph, **beside)
        self.parent, self.indices, self.in_memory = parent, rows, parent.in_memory
        self.files = None if parent.files is None else [parent.files[index] for index in rows.tolist()]

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        return self.parent.load(self.indices[rows], (field,))[field]

    def digests(self, indices: Indices) -> np.ndarray:
        """The parent's hashes for this part's `indices`."""
        if self.fields.keys() != self.parent.fields.keys():
            return super().digests(indices)
        return self.parent.digests(self.indices[np.asarray(indices, dtype=np.int64)])

    def _content(self) -> Iterable[Chunk]:
        yield self.parent.fingerprint().encode()
        yield np.ascontiguousarray(self.indices)
        if self.fields.keys() != self.parent.fields.keys():
            yield repr(list(self.fields)).encode()
