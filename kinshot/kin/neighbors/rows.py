"""Rows as a ranking compares them, and not held twice where they are many."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

HELD = 1 << 25
"""Numbers that are held a second time, at unit length: 128 MB; of more rows those that are asked for are divided each time."""
_SHORT, _LONG = 1e-15, 1e15


class Rows:
    """Rows (N, D) as they are, or at length 1; zeros stay.

    Args:
        raw: float32 or float64.
        unit: whether lengths are divided by.
    """

    def __init__(self, raw: Tensor, *, unit: bool) -> None:
        self.raw, self.lengths = raw, None
        if not unit:
            return
        norms = raw.norm(dim=1, keepdim=True)
        if not bool(((norms == 0) | ((norms > _SHORT) & (norms < _LONG))).all()):
            self.raw = _unit_of_any_length(raw)
            return
        lengths = torch.where(norms == 0, 1, norms)
        if raw.numel() <= HELD:
            self.raw = raw / lengths
        else:
            self.lengths = lengths

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def width(self) -> int:
        """D."""
        return self.raw.shape[1]

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.raw.device

    def part(self, rows: slice) -> Tensor:
        """Some of the rows, one after the other."""
        return self.raw[rows] if self.lengths is None else self.raw[rows] / self.lengths[rows]

    def take(self, index: Tensor) -> Tensor:
        """Rows (*, D) by int64 (*)."""
        found = self.raw.index_select(0, index.flatten())
        if self.lengths is not None:
            found /= self.lengths.index_select(0, index.flatten())
        return found.view(*index.shape, self.width)

    def parts(self, numbers: int) -> Iterator[Tensor]:
        """All of them, so many numbers at a time."""
        step = max(1, numbers // self.width)
        return (self.part(slice(start, start + step)) for start in range(0, len(self), step))

    def all(self) -> Tensor:
        """All of them at once."""
        return self.part(slice(None))


def _unit_of_any_length(rows: Tensor) -> Tensor:
    """Rows at length 1, also those whose squares would not be floats; zeros stay."""
    largest = rows.abs().amax(1, keepdim=True)
    rows = rows / torch.where(largest == 0, 1, largest)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1)
