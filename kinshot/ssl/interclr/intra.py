"""The losses between views that InterCLR stands on. A further one is a class below, a line of `INTRA` and a name in `method.intra`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.momentum import KeyNetwork
from kinshot.encoders.queue import KeyQueue, queue_length
from kinshot.kin import constructors as kin
from kinshot.learn.model import Model
from kinshot.objectives.common import unit
from kinshot.objectives.info_nce import key_info_nce
from kinshot.objectives.nt_xent import nt_xent
from kinshot.samples.batch import Batch
from kinshot.ssl.instances import drawn_rows, told_from_rows
from kinshot.ssl.predictor import predictor_of, rising_momentum, toward


@dataclass(frozen=True)
class IntraSettings:
    """What losses between views may be told; each takes what it needs, see `ssl show interclr`.

    Args:
        dim: D, of an embedding.
        temperature: divides every cosine similarity.
        queue: keys kept as negatives.
        key_momentum: share of the key networks that stays in a step.
        bn_splits: parts that the key networks normalise separately.
        rows: of the bank that a batch is told from.
        hidden: width of a predictor's inner layer.
    """

    dim: int
    temperature: float
    queue: int
    key_momentum: float
    bn_splits: int
    rows: int
    hidden: int


class Compared(NamedTuple):
    """The loss between views, the queries (B, D) of the loss between images, and the keys (B, D or 2 D), without gradient, to keep.

    Of a projector of its own, the loss between images has the last D columns of the keys, the loss between views the first ones.
    """

    loss: Tensor
    query: Tensor
    keys: Tensor


class Intra:
    """A loss between views, with the networks and the memory that it needs.

    Not a module: the method owns its `parts` under their own names, so that a checkpoint does not depend on who compares.

    Args:
        model: encoder and projector that are trained.
        heads: the projector, and after it that of the loss between images where this has its own.
        context: of the run.
        settings: see there.
    """

    views: tuple[int, ...] = (0, 1)
    """Numbers of the views that the trained networks are shown."""
    view_count = 2
    """Views of each sample in a batch."""
    joint = True
    """Whether they pass the networks as one batch."""
    reads_bank = False
    """Whether it compares with the bank, which then has no rest while the loss between images is not yet counted."""

    def __init__(self, model: Model, heads: Sequence[nn.Module], context: RunContext, settings: IntraSettings) -> None:
        self.model, self.heads, self.context, self.settings = model, heads, context, settings
        self.parts: dict[str, nn.Module] = {}

    def prepare(self) -> None:
        """Before the first step of a fresh run."""

    def compare(self, rows: Sequence[Tensor], batch: Batch, step: int, bank: Tensor) -> Compared:
        """The loss of a batch.

        Args:
            rows: by view of `views`, what the heads say, side by side (B, D or 2 D).
            batch: the samples.
            step: 0-based.
            bank: unit rows (N, D) of all samples.
        """
        raise NotImplementedError(f"{type(self).__name__} must define compare()")  # a contract, not a gap

    def after_step(self, step: int, keys: Tensor | None) -> None:
        """Move what follows the optimizer's step; `keys` (B, D) are those of the step, None where there was no loss."""

    def _own(self, rows: Tensor) -> Tensor:
        return rows[:, : self.settings.dim]

    def _inter(self, rows: Tensor) -> Tensor:
        return rows[:, -self.settings.dim :]


class SimCLRIntra(Intra):
    """NT-Xent inside the batch (ours); the second view's embeddings are kept.

    Paper: Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709.
    """

    def compare(self, rows: Sequence[Tensor], batch: Batch, step: int, bank: Tensor) -> Compared:
        """Both views of a sample attract, all others of the batch repel."""
        first, second = rows
        both = torch.cat([self._own(first), self._own(second)])
        loss = nt_xent(both, kin.views(batch.indices), temperature=self.settings.temperature)
        return Compared(loss, self._inter(first), second.detach())


class Keyed(Intra):
    """What losses with key networks share: slow copies of encoder and heads, which see the second view."""

    def __init__(self, model: Model, heads: Sequence[nn.Module], context: RunContext, settings: IntraSettings) -> None:
        super().__init__(model, heads, context, settings)
        self.key = KeyNetwork(
            model.encoder,
            heads,
            momentum=settings.key_momentum,
            splits=settings.bn_splits,
            batch_size=context.batch_size,
            seed=context.seed,
        )
        self.parts["key"] = self.key

    def prepare(self) -> None:
        """Start the copies where the networks are."""
        self.key.synchronize_(self.model.encoder, self.heads)

    def after_step(self, step: int, keys: Tensor | None) -> None:
        """Move the copies."""
        self.key.follow_(self.model.encoder, self.heads)


class MoCoIntra(Keyed):
    """The first view is told its key, of the second view, among keys of a queue: the paper's form.

    Paper: He, Fan, Wu, Xie, Girshick 2019, arXiv 1911.05722.
    """

    views = (0,)

    def __init__(self, model: Model, heads: Sequence[nn.Module], context: RunContext, settings: IntraSettings) -> None:
        super().__init__(model, heads, context, settings)
        self.queue = KeyQueue(queue_length(settings.queue, context.batch_size, context.num_samples), settings.dim, context.seed)
        self.parts["queue"] = self.queue

    def compare(self, rows: Sequence[Tensor], batch: Batch, step: int, bank: Tensor) -> Compared:
        """InfoNCE of the queries with their keys and the queue."""
        key = self.key(batch.views[1], step)
        own, settings = unit(self._own(key)), self.settings
        loss = key_info_nce(self._own(rows[0]), own, self.queue.keys, settings.temperature, normalize="anchors")
        return Compared(loss, self._inter(rows[0]), key)

    def after_step(self, step: int, keys: Tensor | None) -> None:
        """Move the copies, enqueue the keys."""
        super().after_step(step, keys)
        if keys is not None:
            self.queue.enqueue_(unit(self._own(keys)))


class BYOLIntra(Keyed):
    """Each view's prediction points where the slow copies see the other view; nothing is a negative (our recipe).

    Paper: Grill et al. 2020, arXiv 2006.07733.
    """

    joint = False

    def __init__(self, model: Model, heads: Sequence[nn.Module], context: RunContext, settings: IntraSettings) -> None:
        super().__init__(model, heads, context, settings)
        self.predictor = predictor_of(model, context, settings.hidden)
        self.parts["predictor"] = self.predictor

    def compare(self, rows: Sequence[Tensor], batch: Batch, step: int, bank: Tensor) -> Compared:
        """2 - 2 cos of prediction and target, both directions summed; kept are the keys of the second view."""
        keys = [self.key(view, step) for view in batch.views[:2]]
        losses = [
            2 + 2 * toward(self.predictor(self._own(online)), self._own(key)) for online, key in zip(rows, reversed(keys), strict=True)
        ]
        return Compared(torch.stack(losses).sum(), self._inter(rows[0]), keys[1])

    def after_step(self, step: int, keys: Tensor | None) -> None:
        """Move the copies, ever more slowly."""
        self.key.momentum = rising_momentum(self.settings.key_momentum, step, self.context.total_steps)
        super().after_step(step, keys)


class NPIDIntra(Intra):
    """The one view is told its own row of the bank among others drawn from it; its embedding is kept (our recipe).

    Paper: Wu, Xiong, Yu, Lin 2018, arXiv 1805.01978.
    """

    views = (0,)
    view_count = 1
    reads_bank = True

    def __init__(self, model: Model, heads: Sequence[nn.Module], context: RunContext, settings: IntraSettings) -> None:
        super().__init__(model, heads, context, settings)
        if len(heads) > 1:
            problem = "intra=npid compares with the bank, whose rows come from the projector of the loss between images"
            raise ConfigError(f"interclr: {problem}, got share_neck=false: leave share_neck out")
        if settings.rows < 0 or context.num_samples < 2:
            problem = f"bank_negatives is at least 0 and there are 2 samples or more, got {settings.rows} and {context.num_samples}"
            raise ConfigError(f"interclr: {problem}: the others are what a sample is told from")

    def compare(self, rows: Sequence[Tensor], batch: Batch, step: int, bank: Tensor) -> Compared:
        """Cross-entropy of the own row over itself and the rows drawn."""
        drawn = drawn_rows(len(bank), self.settings.rows, self.context.seed, step)
        loss = told_from_rows(rows[0], batch.indices.to(bank.device), bank, drawn, self.settings.temperature)
        return Compared(loss, rows[0], rows[0].detach())


INTRA: dict[str, type[Intra]] = {"moco": MoCoIntra, "simclr": SimCLRIntra, "npid": NPIDIntra, "byol": BYOLIntra}
