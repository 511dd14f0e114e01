"""Sources of several fields: sources of the same samples, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import DataError
from kinshot.datasets.base import ArraySource, Source
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.identity import Chunk
from kinshot.datasets.text import TextSource

Values = Source | np.ndarray | torch.Tensor | Sequence[str]


class FieldsSource(Source):
    """Samples of several fields: each field is a source of its own, or an array, with one row to a sample.

    A segmentation set is a field of images beside one of masks, with `contains`; sensor streams are a field for each sensor, with `clock`
    and, where sensors drop out, `present`. Rows of a field that a sample lacks may hold anything, and are loaded as zeros, or,
    of a series, as NaN.

    Args:
        fields: by name: a source of one field without labels of its own, uint8 images (N, C, H, W), numbers (N, F), or texts.
        labels: integers (N,), or None.
        class_names: names that labels, or the columns of `contains`, index.
        name: used in messages.
        notes: what a person should know of the samples.
        more: what every source can say of its samples: `attributes`, `present`, `clock`, `contains`, `graph`.

    Raises:
        DataError: no field, fields of different lengths or of something else, or what does not fit the samples.
    """

    def __init__(
        self,
        fields: Mapping[str, Values],
        labels: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        name: str = "fields",
        notes: Sequence[str] = (),
        **more: Any,
    ) -> None:
        self.parts = {field: _source_of(values, f"{name}, field {field}") for field, values in fields.items()}
        counts = {field: len(part) for field, part in self.parts.items()}
        if len(set(counts.values())) != 1:
            got = ", ".join(f"{field} {count}" for field, count in counts.items()) or "no field"
            raise DataError(f"{name}: every field needs one row for each sample, got {got}: give them in one order and mark absent ones")
        specs = {field: part.spec for field, part in self.parts.items()}
        super().__init__(name, specs, labels, class_names, next(iter(counts.values())), **more)
        self.in_memory = all(part.in_memory for part in self.parts.values())
        self.notes = list(notes)

    def said(self) -> list[str]:
        """What a person should know of the samples."""
        return [f"{self.name}: {note}" for note in self.notes]

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        there = self.present.get(field)
        if there is None or there[rows].all():
            return self.parts[field].load(rows)
        some = torch.from_numpy(there[rows])
        spec = self.fields[field]
        batch = torch.full((len(rows), *spec.shape), spec.absent, dtype=self.parts[field].load(rows[:0]).dtype)
        batch[some] = self.parts[field].load(rows[there[rows]])
        return batch

    def _content(self) -> Iterable[Chunk]:
        for part in self.parts.values():
            yield part.fingerprint().encode()


def _source_of(values: Values, name: str) -> Source:
    if isinstance(values, Source):
        if values.labels is not None:
            raise DataError(f"{name}: {values.name} brings labels: give one without, and the labels beside the fields")
        return values
    if isinstance(values, np.ndarray | torch.Tensor):
        return ArraySource(values, name=name) if values.ndim == 4 else FeatureSource(values, name=name)
    return TextSource(values, name=name)
