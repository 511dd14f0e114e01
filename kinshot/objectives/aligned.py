"""Two sets of rows that show the same samples, some of which may be absent: what holds for the rows that are there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import at_least_float32


def blanked(z: Tensor, present: Tensor | None) -> Tensor:
    """Embeddings (..., D), in float32 or better, with 0 where `present` (...) is false: neither a value nor a gradient passes there.

    What stands in an absent row plays no part, NaN included.
    """
    z = at_least_float32(z)
    return z if present is None else torch.where(present.unsqueeze(-1), z, 0)


class Aligned(NamedTuple):
    """Two sets of rows (B, D) of the same samples.

    Args:
        first: one set, 0 where absent.
        second: the other.
        there: which rows count, as 1 or 0, (B, 1).
        number: of rows that count, 0-dim.
    """

    first: Tensor
    second: Tensor
    there: Tensor
    number: Tensor

    def centred(self) -> tuple[Tensor, Tensor]:
        """Both sets less their mean over the rows that count; 0 where absent."""
        of = self.number.clamp(min=1)
        first, second = ((rows - rows.sum(0) / of) * self.there for rows in (self.first, self.second))
        return first, second

    def if_several(self, term: Tensor) -> Tensor:
        """A term, or 0 without gradient where fewer than two rows count."""
        return torch.where(self.number >= 2, term, 0)


def aligned(loss: str, first: Tensor, second: Tensor, ids: Tensor | None, present: Tensor | None) -> Aligned:
    """Two sets of equally wide rows, checked, in one floating type, float32 or better.

    Args:
        loss: name of the loss, for messages.
        first: (B, D).
        second: (B, D), the same samples in the same order.
        ids: int64 (B,), checked alone.
        present: bool (B,), samples that both sets show; None = all, at least two.

    Raises:
        ConfigError: shapes that do not fit together, or a batch of fewer than two rows where none is said to be absent.
    """
    got = f"{tuple(first.shape)} and {tuple(second.shape)}"
    if first.dim() != 2 or first.shape != second.shape or first.shape[1] == 0:
        raise ConfigError(f"{loss}: expected two sets of rows (B, D) of the same samples, equally wide, got {got}: give both a projector")
    if ids is not None and ids.shape != first.shape[:1]:
        raise ConfigError(f"{loss}: expected one id for each of {len(first)} rows, got {tuple(ids.shape)}")
    if present is not None and (present.dtype != torch.bool or present.shape != first.shape[:1]):
        raise ConfigError(f"{loss}: expected present as bool ({len(first)},), got {present.dtype} {tuple(present.shape)}")
    if present is None and len(first) < 2:
        raise ConfigError(f"{loss}: expected at least two rows, whose spread it looks at, got {got}: raise the batch size")
    one, two = blanked(first, present), blanked(second, present)
    dtype = torch.promote_types(one.dtype, two.dtype)
    there = torch.ones(len(one), device=one.device, dtype=dtype) if present is None else present.to(one.device, dtype)
    return Aligned(one.to(dtype), two.to(dtype), there.unsqueeze(1), there.sum())
