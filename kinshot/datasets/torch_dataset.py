"""A source as a `torch.utils.data.Dataset`, for other people's loops, loaders, samplers and transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from kinshot.core.errors import ConfigError, suggest
from kinshot.datasets.base import Source

Transform = Callable[[Any], Any]


class SourceDataset(Dataset[Any]):
    """What `as_dataset` makes of a source: (sample, class) by number, and many of them at once for a loader.

    Attributes:
        source: where samples come from.
        targets: the class of every sample, a list as torchvision's data sets have it; empty without labels.
        classes: one name for each class.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform | None = None,
        *,
        target_transform: Transform | None = None,
        fields: Sequence[str] | None = None,
        with_index: bool = False,
    ) -> None:
        for field in fields or ():
            if field not in source.fields:
                raise ConfigError(f"as_dataset: {source.name} has no field {field!r}: {suggest(field, source.fields)}")
        self.source, self.transform, self.target_transform, self.with_index = source, transform, target_transform, with_index
        self.fields = tuple(fields) if fields else None if len(source.fields) == 1 else tuple(source.fields)
        self.targets: list[int] = [] if source.labels is None else source.labels.tolist()
        self.classes: list[str] = list(source.class_names)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        rows = [range(len(self))[int(index)] for index in indices]  # negative ones count from the end, others raise IndexError
        loaded = self.source.load(rows, self.fields)
        if isinstance(loaded, torch.Tensor):
            samples: list[Any] = list(loaded.unbind())
        else:
            samples = [{field: values[place] for field, values in loaded.items()} for place in range(len(rows))]
        return [self._item(row, sample) for row, sample in zip(rows, samples, strict=True)]

    def get_labels(self) -> list[int]:
        """The class of every sample, as easyfsl's `TaskSampler` asks for it."""
        return self.targets

    def _item(self, row: int, sample: Any) -> Any:
        if self.transform is not None:
            sample = self.transform(_as_pictures(self.source, sample) if isinstance(sample, dict) else sample)
        parts = [sample]
        if self.targets:
            label = self.targets[row]
            parts.append(label if self.target_transform is None else self.target_transform(label))
        if self.with_index:
            parts.append(row)
        return tuple(parts) if len(parts) > 1 else sample


def as_dataset(
    source: Source,
    transform: Transform | None = None,
    *,
    target_transform: Transform | None = None,
    fields: Sequence[str] | None = None,
    with_index: bool = False,
) -> SourceDataset:
    """A source as a map-style `torch.utils.data.Dataset` of (sample, class), which any `DataLoader` takes, with any number of workers.

    Samples are what the source holds: an image is a uint8 tensor (C, H, W), which torchvision's transforms (v2) take; rows of numbers and
    series are float32. A loader asks for a batch at once. Without labels items are samples alone.

    Args:
        source: any of `kinshot.sources`.
        transform: what is done to each sample; of several fields it gets a dict of them, images and class maps marked as torchvision's
            `tv_tensors`, so that what turns the one turns the other.
        target_transform: what is done to each class.
        fields: of a source of several, such as images with masks or sensors: those that samples are dicts of; None for all.
        with_index: whether items end with the number of the sample, by which banks and queues know it.

    Raises:
        ConfigError: a field that the source does not have. While it is read: DataError for a file that cannot be.

    >>> from torch.utils.data import DataLoader
    >>> data = kinshot.as_dataset(kinshot.sources.digits(split="train"), with_index=True)
    >>> images, y, numbers = next(iter(DataLoader(data, batch_size=32)))
    >>> images.shape, images.dtype, numbers[:3].tolist()
    (torch.Size([32, 1, 28, 28]), torch.uint8, [0, 1, 2])
    """
    return SourceDataset(source, transform, target_transform=target_transform, fields=fields, with_index=with_index)


def _as_pictures(source: Source, sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Fields that are pictures as torchvision's transforms know them."""
    from torchvision import tv_tensors

    marks = {"image": tv_tensors.Image, "class map": tv_tensors.Mask}
    kinds = {field: marks.get(source.fields[field].kind) for field in sample}
    return {field: values if (mark := kinds[field]) is None else mark(values) for field, values in sample.items()}
