"""One side of a relation, positives or negatives, in three forms: a matrix, a list for each anchor, or everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Mask:
    """A weight for every pair; 0 = not in this part.

    Args:
        weights: bool or float (A, R), not negative.
    """

    weights: Tensor

    def __post_init__(self) -> None:
        if self.weights.dim() != 2 or not (self.weights.dtype == torch.bool or self.weights.is_floating_point()):
            raise ConfigError(f"mask: expected bool or float (A, R), got {self.weights.dtype} {tuple(self.weights.shape)}")

    @property
    def anchors(self) -> int:
        """A."""
        return len(self.weights)

    def to(self, device: torch.device | str) -> Mask:
        """The same on another device."""
        return Mask(self.weights.to(device))

    def rows(self, rows: slice) -> Mask:
        """The part of some anchors."""
        return Mask(self.weights[rows])

    def dense(self, columns: int) -> Tensor:
        """Weights as bool or float (A, R)."""
        return self.weights

    def scaled(self, factors: Tensor) -> Mask:
        """Each anchor's weights times its factor (A,)."""
        return Mask(self.weights.to(factors.dtype) * factors.unsqueeze(1))

    def dropped(self, mask: Tensor) -> Mask:
        """Without the pairs of a bool (A, R)."""
        return Mask(self.weights.masked_fill(mask, 0))


@dataclass(frozen=True, eq=False)
class Listed:
    """Columns for each anchor. A column listed twice counts twice.

    Args:
        index: int64 (A, M); a negative index = absent.
        weights: float (A, M), not negative, 0 = absent; None = 1 everywhere.
    """

    index: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if self.index.dim() != 2 or self.index.dtype != torch.int64:
            raise ConfigError(f"listed: expected int64 (A, M), got {self.index.dtype} {tuple(self.index.shape)}")
        if self.weights is not None and self.weights.shape != self.index.shape:
            raise ConfigError(f"listed: expected a weight for each index, {tuple(self.index.shape)}, got {tuple(self.weights.shape)}")

    @property
    def anchors(self) -> int:
        """A."""
        return len(self.index)

    def to(self, device: torch.device | str) -> Listed:
        """The same on another device."""
        return Listed(self.index.to(device), None if self.weights is None else self.weights.to(device))

    def rows(self, rows: slice) -> Listed:
        """The part of some anchors."""
        return Listed(self.index[rows], None if self.weights is None else self.weights[rows])

    def present(self) -> Tensor | None:
        """Weights (A, M), bool or float, with 0 for what is absent; None where everything is there with weight 1.

        On a GPU the indices are not looked at for that: it would stall.
        """
        there = self.index >= 0
        if self.weights is not None:
            return self.weights * there
        return None if self.index.device.type == "cpu" and bool(there.all()) else there

    def dense(self, columns: int) -> Tensor:
        """Weights as float (A, R); repeated entries add up."""
        weights = torch.ones_like(self.index, dtype=torch.get_default_dtype()) if self.weights is None else self.weights
        weights = weights * (self.index >= 0)
        return weights.new_zeros(self.anchors, columns).scatter_add_(1, self.index.clamp(min=0), weights)

    def scaled(self, factors: Tensor) -> Listed:
        """Each anchor's weights times its factor (A,)."""
        weights = factors.unsqueeze(1).expand(self.index.shape)
        return Listed(self.index, weights if self.weights is None else self.weights * weights)

    def dropped(self, mask: Tensor) -> Listed:
        """Without the pairs of a bool (A, R)."""
        gone = mask.gather(1, self.index.clamp(min=0))
        return Listed(self.index.masked_fill(gone, -1), self.weights)


@dataclass(frozen=True, eq=False)
class Block:
    """Everything with weight 1, but for a few columns of each anchor.

    Args:
        anchors: A.
        columns: R.
        except_: int64 (A, K), columns left out; a negative index leaves nothing out, a repeated one no more than once.
    """

    anchors: int
    columns: int
    except_: Tensor | None = None

    def __post_init__(self) -> None:
        left = self.except_
        if left is not None and (left.dim() != 2 or left.dtype != torch.int64 or len(left) != self.anchors):
            raise ConfigError(f"block: expected exceptions int64 ({self.anchors}, K), got {left.dtype} {tuple(left.shape)}")

    def to(self, device: torch.device | str) -> Block:
        """The same on another device."""
        return Block(self.anchors, self.columns, None if self.except_ is None else self.except_.to(device))

    def rows(self, rows: slice) -> Block:
        """The part of some anchors."""
        count = len(range(*rows.indices(self.anchors)))
        return Block(count, self.columns, None if self.except_ is None else self.except_[rows])

    def dense(self, columns: int) -> Tensor:
        """Weights as bool (A, R), where the exceptions are (on the CPU when there are none)."""
        left = self.except_
        if left is None:
            return torch.ones(self.anchors, columns, dtype=torch.bool)
        # one more column takes what leaves nothing out
        inside = torch.where(left >= 0, left, columns)
        full = torch.ones(self.anchors, columns + 1, dtype=torch.bool, device=left.device)
        return full.scatter_(1, inside, False)[:, :columns]

    def scaled(self, factors: Tensor) -> Mask:
        """Each anchor's weights times its factor (A,): no longer a block."""
        return Mask(self.dense(self.columns).to(factors.device)).scaled(factors)

    def dropped(self, mask: Tensor) -> Mask:
        """Without the pairs of a bool (A, R): no longer a block."""
        return Mask(self.dense(self.columns).to(mask.device) & ~mask)

    def leaving(self, index: Tensor) -> Block:
        """A block with further exceptions int64 (A, K)."""
        return Block(self.anchors, self.columns, index if self.except_ is None else torch.cat([self.except_, index], dim=1))


Part: TypeAlias = Mask | Listed | Block
