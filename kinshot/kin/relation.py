"""A relation between anchors and references: which pairs are kin, which are not, and how strongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.parts import Block, Listed, Mask, Part

_Change: TypeAlias = Callable[[Part], Part]


@dataclass(frozen=True, eq=False)
class Relation:
    """Positive and negative pairs of A anchors and R references; a pair in neither part is left out of every objective.

    Weights are not negative; 0 = not in the part. No pair is in both parts. Constructors by source are in
    `kinshot.kin.constructors`.

    Args:
        positive: the kin; None = no pair.
        negative: what is to be told apart; None = no pair.
        shape: (A, R).

    Raises:
        ConfigError: a part of another shape.

    >>> relation = kinshot.kin.labels(torch.tensor([0, 0, 1, 1]))
    >>> relation.shape
    (4, 4)
    >>> positive, negative = relation.without(torch.eye(4).flip(0) > 0).dense()  # the pairs of that diagonal are neither
    >>> positive
    tensor([[0., 1., 0., 0.],
            [1., 0., 0., 0.],
            [0., 0., 0., 1.],
            [0., 0., 1., 0.]])
    >>> negative
    tensor([[0., 0., 1., 0.],
            [0., 0., 0., 1.],
            [1., 0., 0., 0.],
            [0., 1., 0., 0.]])
    """

    positive: Part | None
    negative: Part | None
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        for name, part in (("positive", self.positive), ("negative", self.negative)):
            columns = part.weights.shape[1] if isinstance(part, Mask) else part.columns if isinstance(part, Block) else self.shape[1]
            if part is not None and (part.anchors, columns) != self.shape:
                raise ConfigError(f"relation: expected a {name} part of shape {self.shape}, got {(part.anchors, columns)}")

    def to(self, device: torch.device | str) -> Relation:
        """The same on another device."""
        return self._map(lambda part: part.to(device))

    def rows(self, rows: slice) -> Relation:
        """The relation of some anchors to all references."""
        return self._map(lambda part: part.rows(rows), anchors=len(range(*rows.indices(self.shape[0]))))

    def dense(self) -> tuple[Tensor, Tensor]:
        """Positive and negative weights, both float (A, R)."""
        positive, negative = self._dense(self.positive), self._dense(self.negative)
        dtype = torch.promote_types(torch.promote_types(positive.dtype, negative.dtype), torch.get_default_dtype())
        return positive.to(dtype), negative.to(dtype)

    def union(self, other: Relation) -> Relation:
        """Kin in either, with the larger weight; negative where one says so and none says kin."""
        (p, n), (q, m) = self._matched(other)
        positive = torch.maximum(p, q)
        return self._masks(positive, torch.maximum(n, m).masked_fill(positive > 0, 0))

    def intersection(self, other: Relation) -> Relation:
        """Only what both say, with the smaller weight."""
        (p, n), (q, m) = self._matched(other)
        return self._masks(torch.minimum(p, q), torch.minimum(n, m))

    def without(self, other: Tensor | Relation) -> Relation:
        """Some pairs masked out: neither positive nor negative any more.

        Args:
            other: bool (A, R), or a relation whose positive pairs are meant.
        """
        shape = tuple(other.shape)
        if shape != self.shape:
            raise ConfigError(f"relation: expected pairs of shape {self.shape} to mask out, got {shape}")
        if isinstance(other, Relation):
            if self._only_blocks() and isinstance(other.positive, Listed) and other.positive.weights is None:
                index = other.positive.index
                return self._map(lambda part: part.leaving(index) if isinstance(part, Block) else part)
            other = other._dense(other.positive) > 0
        mask = other.to(self.device) if self.device is not None else other
        return self._map(lambda part: part.dropped(mask))

    def scaled(self, factors: Tensor) -> Relation:
        """Both parts' weights times one factor (A,) for each anchor; 0 leaves an anchor out."""
        if factors.shape != self.shape[:1]:
            raise ConfigError(f"relation: expected a factor for each of {self.shape[0]} anchors, got {tuple(factors.shape)}")
        return self._map(lambda part: part.scaled(factors))

    @property
    def device(self) -> torch.device | None:
        """Where the tensors are; None when it has none."""
        for part in (self.positive, self.negative):
            tensor = part.weights if isinstance(part, Mask) else part.index if isinstance(part, Listed) else part.except_ if part else None
            if tensor is not None:
                return tensor.device
        return None

    def validate(self) -> Relation:
        """Itself, after reading all values: for a border, not for every step.

        Raises:
            ConfigError: an index out of range, a weight that is negative or not finite, a positive listed twice, a pair in both parts.
        """
        for name, part in (("positive", self.positive), ("negative", self.negative)):
            if part is not None:
                _check_values(name, part, self.shape[1])
        if isinstance(self.positive, Listed):
            _check_once(self.positive.index)
        positive, negative = self.dense()
        both = ((positive > 0) & (negative > 0)).nonzero()
        if len(both):
            raise ConfigError(f"relation: {len(both)} pairs are positive and negative at once, the first {tuple(both[0].tolist())}")
        return self

    def _only_blocks(self) -> bool:
        return all(part is None or isinstance(part, Block) for part in (self.positive, self.negative))

    def _map(self, change: _Change, anchors: int | None = None) -> Relation:
        positive = None if self.positive is None else change(self.positive)
        negative = None if self.negative is None else change(self.negative)
        return Relation(positive, negative, (self.shape[0] if anchors is None else anchors, self.shape[1]))

    def _dense(self, part: Part | None) -> Tensor:
        full = torch.zeros(self.shape, dtype=torch.bool) if part is None else part.dense(self.shape[1])
        return full if self.device is None else full.to(self.device)

    def _matched(self, other: Relation) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        if self.shape != other.shape:
            raise ConfigError(f"relation: expected two of one shape, got {self.shape} and {other.shape}")
        return self.dense(), other.dense() if self.device is None else other.to(self.device).dense()

    def _masks(self, positive: Tensor, negative: Tensor) -> Relation:
        return Relation(Mask(positive), Mask(negative), self.shape)


def _check_values(name: str, part: Part, columns: int) -> None:
    index = part.index if isinstance(part, Listed) else part.except_ if isinstance(part, Block) else None
    if index is not None and bool((index >= columns).any()):
        raise ConfigError(f"relation: expected {name} indices below {columns}, got {int(index.max())}")
    weights = None if isinstance(part, Block) else part.weights
    if weights is not None and weights.dtype != torch.bool and not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise ConfigError(f"relation: expected finite {name} weights of 0 or more, got {float(weights.min())} to {float(weights.max())}")


def _check_once(index: Tensor) -> None:
    ordered = index.sort(dim=1).values
    again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if bool(again.any()):
        raise ConfigError(f"relation: anchor {int(again.any(dim=1).nonzero()[0])} lists a positive twice; give it a weight instead")
