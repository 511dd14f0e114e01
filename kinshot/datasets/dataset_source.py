"""Samples that somebody already has in Python, arrays or a `torch.utils.data.Dataset`, as a source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import ArraySource, Source
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.identity import Chunk
from kinshot.datasets.images import framed, kept_whole
from kinshot.datasets.known_labels import known_labels, whole_numbers
from kinshot.samples.pixels import PixelSpec


class DatasetSource(Source):
    """Images of a map-style data set, decoded when they are asked for; see `as_source`.

    Args:
        data: gives a picture for each number, alone or in front of its label.
        size: side in pixels; None keeps the pictures' own.
        channels: 1 for grey, 3 for colour.
        labels: integers (N,), or None.
        name: used in messages.

    Raises:
        DataError: a data set without samples, or a first item that is no image.
    """

    in_memory = False

    def __init__(self, data: Any, size: int | None, channels: Literal[1, 3], labels: np.ndarray | None, name: str) -> None:
        if not len(data):
            raise DataError(f"{name} has no sample: check its folder and split")
        self.data, self.size, self.channels = data, size, channels
        shape = _pixels(_picture(data[0]), size, channels, f"{name}, item 0").shape
        super().__init__(name, PixelSpec.unmeasured(shape), labels, _class_names(data, labels), len(data))

    def item(self, row: int) -> tuple[np.ndarray, Any]:
        """The pixels uint8 (C, H, W) of an item, and what it says of its class; None where it says nothing. Raises DataError."""
        given = self.data[row]
        pixels = _pixels(_picture(given), self.size, self.channels, f"{self.name}, item {row}")
        if pixels.shape != self.shape:
            raise DataError(f"{self.name}, item {row} has the shape {pixels.shape}, item 0 has {self.shape}: give size=, or resize them")
        return pixels, given[1] if isinstance(given, tuple | list) and len(given) > 1 else None

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        batch = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for place, row in enumerate(rows.tolist()):
            batch[place] = self.item(row)[0]
        return torch.from_numpy(batch)

    def _content(self) -> Iterable[Chunk]:
        for part in np.array_split(np.arange(len(self)), max(1, len(self) // 256)):
            yield self.load(part).numpy()


def as_source(
    data: Any,
    labels: Any = None,
    *,
    size: int | None = None,
    channels: Literal[1, 3] = 3,
    name: str = "",
    in_memory_mib: int = 1024,
) -> Source:
    """What you have in Python as a source, for everything here that takes one.

    Args:
        data: images uint8 (N, C, H, W), or (N, H, W) of one channel; features (N, F); or a map-style `torch.utils.data.Dataset`, such as
            torchvision's, of pictures (PIL's, or uint8 tensors (C, H, W)), alone or as (picture, label). A source is given back as it is.
        labels: integers (N,); None takes what a data set says of itself (see `EpisodeSampler`), or its items do.
        size: of a data set, side of the central square that pictures are resized to, as `folder` does; None keeps their own size, which
            must be the same for all.
        channels: of a data set, 3 for colour or 1 for grey.
        name: used in messages.
        in_memory_mib: a data set that needs no more than this is decoded once, now; a larger one when samples are asked for.

    Raises:
        DataError: samples of another form, or labels that do not fit.
        ConfigError: a size below 1.

    >>> source = kinshot.as_source(torch.zeros(6, 1, 28, 28, dtype=torch.uint8), labels=[0, 0, 0, 1, 1, 1])
    >>> len(source), source.kind, source.shape, source.class_names
    (6, 'image', (1, 28, 28), ['0', '1'])
    """
    if isinstance(data, Source):
        return data if labels is None else data.relabelled(_labels(labels, len(data), data.name))
    if isinstance(data, torch.Tensor | np.ndarray):
        y = None if labels is None else _labels(labels, len(data), name or "array")
        if data.ndim == 2:
            return FeatureSource(data, y, name=name or "features")
        return ArraySource(data[:, None] if data.ndim == 3 else data, y, name=name or "array")
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise DataError(f"as_source: expected an array, or a data set with a length and items by number, got {type(data).__name__}")
    if size is not None and size < 1:
        raise ConfigError(f"as_source: size must be at least 1, got {size}")
    name = name or type(data).__name__
    y = known_labels(data) if labels is None else _labels(labels, len(data), name)
    source = DatasetSource(data, size, channels, y, name)
    return source if len(source) * np.prod(source.shape) > in_memory_mib * 2**20 else _decoded(source)


def _decoded(source: DatasetSource) -> ArraySource:
    """All images in memory; where nothing else says labels, those of the items, of which every one is asked for once."""
    images, said = np.empty((len(source), *source.shape), dtype=np.uint8), []
    for row in range(len(source)):
        images[row], label = source.item(row)
        said.append(label.item() if isinstance(label, torch.Tensor) and label.numel() == 1 else label)
    labels = whole_numbers(said) if source.labels is None and None not in said else source.labels
    return ArraySource(images, labels, _class_names(source.data, labels), source.name)


def _labels(labels: Any, count: int, name: str) -> np.ndarray:
    """Labels as int64 (N,). Raises DataError for what is none."""
    found = whole_numbers(labels)
    if found is None or len(found) != count:
        got = f"{len(found)} of them" if found is not None else type(labels).__name__
        raise DataError(f"{name}: expected one whole number as the label of each of {count} samples, got {got}")
    return found


def _class_names(data: Any, labels: np.ndarray | None) -> list[str]:
    """The data set's own names of its classes where it has one for each label; none otherwise."""
    names = getattr(data, "classes", None)
    if labels is None or not isinstance(names, list | tuple) or len(names) <= labels.max():
        return []
    return [str(one) for one in names]


def _picture(item: Any) -> Any:
    """The picture of an item, which stands alone or in front of its label."""
    return item[0] if isinstance(item, tuple | list) and item else item


def _pixels(given: Any, size: int | None, channels: int, where: str) -> np.ndarray:
    """A picture as uint8 (C, H, W). Raises DataError for anything else."""
    if isinstance(given, torch.Tensor) and given.dtype == torch.uint8 and given.ndim == 3 and given.shape[0] in (1, 3):
        if size is None and given.shape[0] == channels:
            return given.numpy()
        rows = given.permute(1, 2, 0).numpy()
        given = Image.fromarray(rows[..., 0] if rows.shape[2] == 1 else rows)
    if isinstance(given, Image.Image):
        return kept_whole(given, channels, where) if size is None else framed(given, size, channels, where)
    got = f"{given.dtype} {tuple(given.shape)}" if isinstance(given, torch.Tensor) else type(given).__name__
    remedy = "leave ToTensor, Normalize and the like out of the data set's transform"
    raise DataError(f"{where} is {got}: expected a picture, PIL's or a uint8 tensor (C, H, W); {remedy}")
