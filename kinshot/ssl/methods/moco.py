"""MoCo v2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.momentum import KeyNetwork
from kinshot.encoders.queue import KeyQueue, embedding_dim, queue_length
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.objectives.common import unit
from kinshot.objectives.info_nce import key_info_nce


@METHODS.register("moco")
class MoCo(Method):
    """MoCo v2: a query attracts the key of the image's other view and repels a queue of past keys.

    Paper: Chen, Fan, Girshick, He 2020, arXiv 2003.04297; He, Fan, Wu, Xie, Girshick 2019, arXiv 1911.05722.

    The key networks follow right after the optimizer's step, not right before the next forward pass: the same sequence of
    values, but the state between two steps is complete. The symmetric loss is the mean of both directions.

    Args:
        queue: keys kept as negatives, rounded down to a multiple of the batch; 0 is N / 2, at most 4096.
        key_momentum: share of the key networks that stays in a step.
        temperature: divides every cosine similarity.
        symmetric: whether each view is once query and once key, at twice the cost.
        bn_splits: shuffled parts that the key networks normalise separately, in place of shuffling over several GPUs.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        context: RunContext,
        *,
        queue: int = 4096,
        key_momentum: float = 0.999,
        temperature: float = 0.2,
        symmetric: bool = False,
        bn_splits: int = 1,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
        self.encoder, self.projector = encoder, projector
        self.key = KeyNetwork(
            encoder, [projector], momentum=key_momentum, splits=bn_splits, batch_size=context.batch_size, seed=context.seed
        )
        per_step = context.batch_size * (2 if symmetric else 1)
        self.queue = KeyQueue(queue_length(queue, per_step, context.num_samples), embedding_dim(encoder, projector), context.seed)
        self.temperature, self.symmetric = temperature, symmetric
        self._keys: Tensor | None = None

    def prepare(self, extract: Extract) -> None:
        """Start the key networks where the query networks are."""
        self.key.synchronize_(self.encoder, [self.projector])

    def loss(self, views: list[Tensor], indices: Tensor, step: int) -> dict[str, Tensor]:
        """InfoNCE of view 1 as query against view 2 as key, or the mean of both directions."""
        pairs = [(views[0], views[1]), (views[1], views[0])][: 2 if self.symmetric else 1]
        losses, keys = [], []
        for query_view, key_view in pairs:
            query = self.projector(self.encoder(query_view))
            key = unit(self.key(key_view, step))
            losses.append(key_info_nce(query, key, self.queue.keys, self.temperature, normalize="anchors"))
            keys.append(key)
        # kept for after_step: a step that diverges must leave no trace in the queue
        self._keys = torch.cat(keys)
        return {"loss": torch.stack(losses).mean()}

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the key networks and enqueue the step's keys."""
        self.key.follow_(self.encoder, [self.projector])
        if self._keys is not None:
            self.queue.enqueue_(self._keys)
            self._keys = None
        return {}
