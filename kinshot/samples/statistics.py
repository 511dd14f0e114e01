"""Means and spreads of a source's samples, which normalisation needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any, Protocol

import numpy as np
import torch

from kinshot.core.errors import DataError

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
_STD_FLOOR = 1e-3
_CHUNK = 256
# a spread below the rounding of float32 values is no spread
_CONSTANT, _SMALLEST = 1e-7, 1e-30


class Loads(Protocol):
    """What is measured: a named source of samples."""

    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every sample."""

    def __len__(self) -> int: ...

    def load(self, indices: Any) -> torch.Tensor:
        """The samples at `indices`: (B, *shape)."""


def pixel_statistics(source: Loads, limit: int = 2048) -> Statistics:
    """Mean and standard deviation of the pixels, in [0, 1], per channel, over up to `limit` evenly spaced images.

    The standard deviation is at least 1e-3, so that dividing by it is safe for a set of constant images.
    """
    if len(source) == 0:
        raise DataError(f"{source.name} holds no images: nothing to measure")
    chosen = np.unique(np.linspace(0, len(source) - 1, min(limit, len(source))).astype(np.int64))
    total, squares, pixels = torch.zeros(source.shape[0]).double(), torch.zeros(source.shape[0]).double(), 0
    for start in range(0, len(chosen), _CHUNK):
        batch = source.load(chosen[start : start + _CHUNK]).double() / 255
        total = total + batch.sum(dim=(0, 2, 3))
        squares = squares + batch.square().sum(dim=(0, 2, 3))
        pixels += batch.shape[0] * batch.shape[2] * batch.shape[3]
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp_min(0).sqrt().clamp_min(_STD_FLOOR)
    return tuple(mean.tolist()), tuple(std.tolist())


def feature_statistics(source: Loads) -> Statistics:
    """Mean and standard deviation of each feature over all samples; a feature that never changes has standard deviation 1.

    Two passes in float64: one pass loses the spread of features that lie far from zero, dates for example.
    """
    if len(source) == 0:
        raise DataError(f"{source.name} holds no samples: nothing to measure")
    mean = _total(_float64(source)) / len(source)
    std = (_total((batch - mean).square() for batch in _float64(source)) / len(source)).sqrt()
    changes = std > (_CONSTANT * mean.abs()).clamp_min(_SMALLEST)
    return tuple(mean.tolist()), tuple(torch.where(changes, std, 1.0).tolist())


def series_statistics(source: Loads) -> Statistics:
    """Mean and standard deviation of each channel over what is measured, which is what is not NaN, in all samples (C, ...).

    A channel that never changes has standard deviation 1. Two passes in float64: a barometer's spread lies far below its mean.

    Raises:
        DataError: no samples, a channel that no sample measures, or infinity.
    """
    if len(source) == 0:
        raise DataError(f"{source.name} holds no samples: nothing to measure")
    sums, counts = _total(torch.stack([batch.nansum(2), (~batch.isnan()).sum(2).double()], dim=1) for batch in _channels(source))
    if not bool((counts > 0).all()):
        channel = int((counts == 0).nonzero()[0])
        raise DataError(f"{source.name}: channel {channel} is not measured in any sample: leave it out")
    mean = sums / counts
    if not bool(mean.isfinite().all()):
        channel = int((~mean.isfinite()).nonzero()[0])
        raise DataError(f"{source.name}: channel {channel} holds infinity: write NaN where nothing was measured")
    std = (_total((batch - mean.unsqueeze(1)).square().nansum(2) for batch in _channels(source)) / counts).sqrt()
    changes = std > (_CONSTANT * mean.abs()).clamp_min(_SMALLEST)
    return tuple(mean.tolist()), tuple(torch.where(changes, std, 1.0).tolist())


def _total(batches: Iterable[torch.Tensor]) -> torch.Tensor:
    return reduce(torch.add, (batch.sum(dim=0) for batch in batches))


def _channels(source: Loads) -> Iterator[torch.Tensor]:
    return (batch.flatten(2) for batch in _float64(source))


def _float64(source: Loads) -> Iterator[torch.Tensor]:
    for start in range(0, len(source), _CHUNK):
        yield source.load(np.arange(start, min(start + _CHUNK, len(source)))).double()
