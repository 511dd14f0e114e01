"""MoCo v2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.momentum import KeyNetwork
from kinshot.encoders.queue import KeyQueue, embedding_dim, queue_length
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.objectives.common import unit
from kinshot.objectives.info_nce import key_info_nce
from kinshot.samples.batch import Batch


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
        model: Model,
        context: RunContext,
        *,
        queue: int = 4096,
        key_momentum: float = 0.999,
        temperature: float = 0.2,
        symmetric: bool = False,
        bn_splits: int = 1,
    ) -> None:
        super().__init__(model)
        if not temperature > 0:
            raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
        self.key = KeyNetwork(
            self.encoder, [self.projector], momentum=key_momentum, splits=bn_splits, batch_size=context.batch_size, seed=context.seed
        )
        per_step = context.batch_size * (2 if symmetric else 1)
        self.queue = KeyQueue(queue_length(queue, per_step, context.num_samples), embedding_dim(self.encoder, self.projector), context.seed)
        self.temperature, self.symmetric = temperature, symmetric
        self._keys: Tensor | None = None

    def prepare(self, extract: Extract) -> None:
        """Start the key networks where the query networks are."""
        self.key.synchronize_(self.encoder, [self.projector])

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Queries: the first view, and the second too where the loss is symmetric; each view on its own, as its keys are."""
        return outputs_of(self.model, batch, (0, 1) if self.symmetric else (0,), [*self.uses, *names], joint=False)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """InfoNCE of view 1 as query against view 2 as key, or the mean of both directions."""
        losses, keys = [], []
        for query, view in zip(outputs.blocks("projector"), (1, 0), strict=False):
            key = unit(self.key(batch.views[view], step))
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
