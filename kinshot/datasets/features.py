"""Samples that are rows of numbers: measurements, or features that another model computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import DataError
from kinshot.datasets.base import Source
from kinshot.datasets.identity import Chunk
from kinshot.samples.rows import RowSpec


class FeatureSource(Source):
    """A matrix of features held in memory.

    Args:
        features: finite numbers (N, F); kept as float32, not copied where they are that already.
        labels: integers (N,), or None.
        class_names: names that labels index; default "0", "1", ...
        name: used in messages.
        more: what every source can say of its samples: `attributes`, `clock`, `graph`, ....

    Raises:
        DataError: features that are not a matrix of finite numbers, or labels that do not fit.
    """

    def __init__(
        self,
        features: np.ndarray | torch.Tensor,
        labels: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        name: str = "features",
        **more: Any,
    ) -> None:
        matrix = _matrix(features, name)
        super().__init__(name, RowSpec.unmeasured(matrix.shape[1:]), labels, class_names, len(matrix), **more)
        self.features = matrix

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        return self.features[torch.from_numpy(rows)]

    def _content(self) -> Iterable[Chunk]:
        yield self.features.numpy()


def _matrix(features: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """The features as float32 (N, F), every value finite."""
    given = features.detach().cpu() if isinstance(features, torch.Tensor) else np.asarray(features)
    numbers = not given.is_complex() if isinstance(given, torch.Tensor) else given.dtype.kind in "biuf"
    if given.ndim != 2 or given.shape[1] == 0 or not numbers:
        raise DataError(f"{name}: expected a matrix of numbers (N, F), got {given.dtype} {tuple(given.shape)}: reshape or convert it")
    if isinstance(given, np.ndarray):
        with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
            given = torch.from_numpy(np.ascontiguousarray(given, dtype=np.float32))
    matrix = given.float().contiguous()
    bad = ~torch.isfinite(matrix)
    if bool(bad.any()):
        row, column = bad.nonzero()[0].tolist()
        value = float(np.asarray(features)[row, column])
        raise DataError(f"{name}: row {row}, column {column} is {value}, no number that float32 holds: fill it in or leave it out")
    return matrix
