"""MoCo v3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.objectives.common import check_above
from kinshot.samples.batch import Batch
from kinshot.ssl.predictor import predictor_of, rising_momentum, slow_copies, told_apart


@METHODS.register("moco_v3")
class MoCoV3(Method):
    """Each view's prediction is told which of the batch's keys, seen by slow copies of the networks in the other view, is its own.

    Paper: Chen, Xie, He 2021, arXiv 2104.02057.

    There is no queue: negatives are the other keys of the batch. Each view passes the networks on its own, as in the released code, whose
    loss is also multiplied by 2 t. For a ViT it leaves the patch projection as it was drawn (`train.freeze=[patch_embed.proj]`).

    Args:
        temperature: t, divides every cosine similarity.
        key_momentum: share of the slow copies that stays in a step at the beginning; it rises to 1 along half a cosine.
        hidden: width of the predictor's inner layer; 0 is the projection's width.
    """

    def __init__(self, model: Model, context: RunContext, *, temperature: float = 0.2, key_momentum: float = 0.99, hidden: int = 0) -> None:
        super().__init__(model)
        check_above("temperature", temperature)
        if context.batch_size < 2:
            raise ConfigError(f"moco_v3: expected a batch of at least 2, got {context.batch_size}: negatives come from the batch")
        self.predictor = predictor_of(model, context, hidden)
        self.key = slow_copies(self, context, key_momentum)
        self.temperature, self.key_momentum, self.total_steps = temperature, key_momentum, context.total_steps

    def prepare(self, extract: Extract) -> None:
        """Start the slow copies where the networks are."""
        self.key.synchronize_(self.encoder, [self.projector])

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Both views, each on its own."""
        return outputs_of(self.model, batch, (0, 1), [*self.uses, *names], joint=False)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """2 t times the cross-entropy of each prediction over the batch's keys, both directions summed."""
        losses = [
            2 * self.temperature * told_apart(self.predictor(online), self.key(batch.views[other], step), self.temperature)
            for online, other in zip(outputs.blocks("projector"), (1, 0), strict=True)
        ]
        return {"loss": torch.stack(losses).sum()}

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the slow copies."""
        self.key.momentum = rising_momentum(self.key_momentum, step, self.total_steps)
        self.key.follow_(self.encoder, [self.projector])
        return {}
