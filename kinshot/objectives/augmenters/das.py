"""Densely-anchored sampling: embeddings around a batch's own, made by what its classes have in common and by how members differ."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.augmenters.copies import check_batch, check_classes, copied
from kinshot.objectives.common import at_least_float32, check_at_least, full_precision, unit
from kinshot.objectives.module import ObjectiveModule


class ClassMemory(NamedTuple):
    """What is remembered of P classes.

    `counts` int32 (P, D): how often a channel was among the largest of a member; `bank` (P, N, D): differences of members, the latest N;
    `pushed` int64 (P,): how many there were.
    """

    counts: Tensor
    bank: Tensor
    pushed: Tensor


@torch.no_grad()
def remembered(memory: ClassMemory, rows: Tensor, own: Tensor, channels: int) -> ClassMemory:
    """The memory after a batch: its rows' largest channels are counted, and differences within classes take the places of the oldest.

    Args:
        memory: of P classes.
        rows: (B, D).
        own: class of each row, 0..P-1, int64 (B,).
        channels: K, how many channels of a row are its largest; of equals the first.
    """
    size = memory.bank.shape[1]
    largest = rows.argsort(dim=1, descending=True, stable=True)[:, :channels]
    ones = torch.ones_like(largest, dtype=memory.counts.dtype)
    counts = memory.counts.index_put((own.unsqueeze(1).expand_as(largest), largest), ones, accumulate=True)
    a, b = (own.unsqueeze(1) == own).fill_diagonal_(False).nonzero(as_tuple=True)
    differences = rows[a] - rows[b]
    some = differences.any(dim=1)
    order = own[a[some]].argsort(stable=True)
    differences, owner = differences[some][order], own[a[some]][order]
    count = torch.bincount(owner, minlength=len(counts))
    rank = torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count)[owner]
    last = rank >= count[owner] - size  # what later ones would overwrite is not written
    slot = (memory.pushed[owner] + rank) % size
    bank = memory.bank.index_put((owner[last], slot[last]), differences[last].to(memory.bank))
    return ClassMemory(counts, bank, memory.pushed + count)


def produced(rows: Tensor, channels: Tensor, multipliers: Tensor, shifts: Tensor) -> Tensor:
    """Rows (B, D) with some channels int64 (B, K) multiplied by (B, K), then shifted by (B, D)."""
    return rows * torch.ones_like(rows).scatter(1, channels, multipliers) + shifts


@AUGMENTERS.register("das", classes=True)
class Das(ObjectiveModule):
    """Copies of rows whose class's most frequent channels are scaled and which are shifted by a difference of two of its members.

    Paper: Liu, Huang, Zhuang, Yang, Tan, Wang 2022, arXiv 2208.00119 (DAS).

    The memory of a class moves before its copies are made, and is kept once the step has gone through. A copy is related as its row is,
    kin to it, and an anchor, too. Rows of unknown class have none.

    Args:
        dim: of embeddings.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        copies: of each row, at least 1.
        channels: K, how many of a class are scaled, at least 1; at most all are.
        scale: lowest and highest factor, each above 0.
        shift: factor on the difference, from 0.
        bank: differences of each class that are kept, at least 1.
        detach: whether copies carry no gradient.
        normalize: scales rows to length 1 before, and copies after.

    Raises:
        ConfigError: a setting out of range, a kin that names no classes, or shapes that do not fit together.

    >>> z, y = torch.randn(4, 8), torch.tensor([0, 0, 1, -1])
    >>> rows, relation, classes = kinshot.augmenters.das(8, 2)(z, kinshot.kin.labels(y), y, 0)
    >>> rows.shape, relation.shape, classes[4:]
    (torch.Size([13, 8]), (13, 13), tensor([0, 0, 1, 0, 0, 1, 0, 0, 1]))
    """

    counts: Tensor
    bank: Tensor
    pushed: Tensor

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        copies: int = 3,
        channels: int = 4,
        scale: tuple[float, float] = (0.5, 2.0),
        shift: float = 0.01,
        bank: int = 10,
        detach: bool = True,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        check_classes("das", classes)
        check_at_least(1, copies=copies, channels=channels, bank=bank)
        check_at_least(0, shift=shift)
        if not 0 < scale[0] <= scale[1]:
            raise ConfigError(f"scale: expected 0 < lowest <= highest, got {scale}")
        self.copies, self.channels, self.scale, self.shift = copies, min(channels, dim), scale, shift
        self.detach, self.normalize = detach, normalize
        self.register_buffer("counts", torch.zeros(classes, dim, dtype=torch.int32))
        self.register_buffer("bank", torch.zeros(classes, bank, dim))
        self.register_buffer("pushed", torch.zeros(classes, dtype=torch.int64))
        self._noted: tuple[Tensor, ClassMemory] | None = None

    def forward(
        self, z: Tensor, relation: Relation, y: Tensor | None, step: int = 0, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Relation, Tensor]:
        """Rows (A + S, D), their relation and classes; `step` plays no part, draws are the generator's (None = that of torch)."""
        y = check_batch("das", z, relation, y)
        with full_precision(z):
            rows = unit(z) if self.normalize else at_least_float32(z)
            known = (y >= 0).nonzero().squeeze(1)
            present, own = torch.unique(y[known], return_inverse=True)
            before = ClassMemory(self.counts[present], self.bank[present], self.pushed[present])
            memory = remembered(before, rows[known].detach(), own, self.channels)
            self._noted = (present, memory)
            made = self._made((rows.detach() if self.detach else rows)[known], memory, own, generator)
            parents = known.repeat(self.copies)
        return torch.cat([rows, unit(made) if self.normalize else made]), copied(relation, parents), torch.cat([y, y[parents]])

    def _made(self, rows: Tensor, memory: ClassMemory, own: Tensor, generator: torch.Generator | None) -> Tensor:
        """Copies of rows (B, D), all of the first draw, then all of the second."""
        often = memory.counts.argsort(dim=1, descending=True, stable=True)[own, : self.channels].repeat(self.copies, 1)
        count = len(often)
        multipliers = torch.rand(count, self.channels, generator=generator).to(rows) * (self.scale[1] - self.scale[0]) + self.scale[0]
        held = memory.pushed[own].clamp(max=memory.bank.shape[1]).repeat(self.copies)
        place = (torch.rand(count, generator=generator).to(rows.device) * held).long().clamp(max=(held - 1).clamp(min=0))
        shifts = self.shift * memory.bank[own.repeat(self.copies), place].to(rows)  # an empty bank is 0
        return produced(rows.repeat(self.copies, 1), often, multipliers, shifts)

    def after_step(self) -> None:
        """Keep the memory of the step's classes."""
        if self._noted is not None:
            present, memory = self._noted
            self.counts[present], self.bank[present], self.pushed[present] = memory
            self._noted = None
