"""Samples that are windows of one sensor, cut already and held in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import DataError
from kinshot.datasets.base import Source
from kinshot.datasets.identity import Chunk
from kinshot.samples.series import SeriesSpec


class SeriesSource(Source):
    """Windows of a sensor that are all of one length. Several sensors are several of these, side by side in a `FieldsSource`.

    Args:
        windows: numbers (N, C, T), NaN where nothing was measured; kept as float32, not copied where they are that already.
        rate: steps in a second, in Hz.
        labels: integers (N,), or None.
        class_names: names that labels index; default "0", "1", ...
        name: used in messages.
        more: what every source can say of its samples: `attributes`, `clock`, `graph`, ....

    Raises:
        DataError: windows of another form, infinity, a rate that is none, or labels that do not fit.
    """

    def __init__(
        self,
        windows: np.ndarray | torch.Tensor,
        rate: float,
        labels: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        name: str = "series",
        **more: Any,
    ) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise DataError(f"{name}: expected a rate in Hz above 0, got {rate:g}: say how many steps there are in a second")
        self.windows = _windows(windows, name)
        spec = SeriesSpec.unmeasured(self.windows.shape[1:], rate)
        super().__init__(name, spec, labels, class_names, len(self.windows), **more)

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        return self.windows[torch.from_numpy(rows)]

    def _content(self) -> Iterable[Chunk]:
        yield repr(self.fields[self.field].meets).encode()
        yield self.windows.numpy()


def _windows(given: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """The windows as float32 (N, C, T) without infinity."""
    array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    if array.ndim != 3 or 0 in array.shape[1:] or array.dtype.kind not in "biuf":
        raise DataError(f"{name}: expected windows of numbers (N, C, T), got {array.dtype} {array.shape}: reshape or convert them")
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
        found = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    bad = found.isinf()
    if bool(bad.any()):
        window, channel, step = bad.nonzero()[0].tolist()
        where = f"window {window}, channel {channel}, step {step}"
        raise DataError(f"{name}: {where} is {array[window, channel, step]}: write NaN where nothing was measured")
    return found
