"""Samples that are windows of frames, cut already and held in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import DataError
from kinshot.datasets.base import Source
from kinshot.datasets.identity import Chunk
from kinshot.samples.frames import FramesSpec


class FramesSource(Source):
    """Windows of a camera's frames that are all of one length; beside sensors in a `FieldsSource`, or alone.

    Args:
        windows: (N, C, T, H, W), bytes, or floats in [0, 1] with NaN for frames that there are not; bytes are kept as bytes.
        rate: frames in a second, in Hz.
        labels: integers (N,), or None.
        class_names: names that labels index; default "0", "1", ...
        name: used in messages.
        more: what every source can say of its samples: `attributes`, `clock`, `graph`, ....

    Raises:
        DataError: windows of another form or range, a rate that is none, or labels that do not fit.
    """

    def __init__(
        self,
        windows: np.ndarray | torch.Tensor,
        rate: float,
        labels: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        name: str = "frames",
        **more: Any,
    ) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise DataError(f"{name}: expected a rate in Hz above 0, got {rate:g}: say how many frames there are in a second")
        self.windows = _windows(windows, name)
        super().__init__(name, FramesSpec.unmeasured(self.windows.shape[1:], rate), labels, class_names, len(self.windows), **more)

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        return self.fields[field].values(self.windows[torch.from_numpy(rows)])

    def _content(self) -> Iterable[Chunk]:
        yield repr(self.fields[self.field].meets).encode()
        yield self.windows.numpy()


def _windows(given: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """The windows as bytes or float32, (N, C, T, H, W)."""
    array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    if array.ndim != 5 or 0 in array.shape[1:] or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        got = f"{array.dtype} {array.shape}"
        raise DataError(f"{name}: expected windows (N, C, T, H, W) of bytes or floats, got {got}: reshape or convert them")
    if array.dtype != np.uint8 and not ((array >= 0) & (array <= 1) | np.isnan(array)).all():
        raise DataError(f"{name}: floats must lie in [0, 1], or be NaN for frames that there are not: divide bytes by 255")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.uint8 if array.dtype == np.uint8 else np.float32))
