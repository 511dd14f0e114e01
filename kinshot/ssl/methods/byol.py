"""BYOL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.samples.batch import Batch
from kinshot.ssl.predictor import predictor_of, rising_momentum, slow_copies, toward


@METHODS.register("byol")
class BYOL(Method):
    """Each view's prediction points where slow copies of the networks see the other view; nothing is a negative.

    Paper: Grill et al. 2020, arXiv 2006.07733.

    Each view passes the networks on its own, as in the released code. The copies follow right after the optimizer's step.

    Args:
        key_momentum: share of the slow copies that stays in a step at the beginning; it rises to 1 along half a cosine.
        hidden: width of the predictor's inner layer; 0 is the projection's width.
    """

    def __init__(self, model: Model, context: RunContext, *, key_momentum: float = 0.99, hidden: int = 0) -> None:
        super().__init__(model)
        self.predictor = predictor_of(model, context, hidden)
        self.key = slow_copies(self, context, key_momentum)
        self.key_momentum, self.total_steps = key_momentum, context.total_steps

    def prepare(self, extract: Extract) -> None:
        """Start the slow copies where the networks are."""
        self.key.synchronize_(self.encoder, [self.projector])

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Both views, each on its own."""
        return outputs_of(self.model, batch, (0, 1), [*self.uses, *names], joint=False)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """2 - 2 cos of prediction and target, both directions summed as in the paper: 0 at best."""
        losses = [
            2 + 2 * toward(self.predictor(online), self.key(batch.views[other], step))
            for online, other in zip(outputs.blocks("projector"), (1, 0), strict=True)
        ]
        return {"loss": torch.stack(losses).sum()}

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the slow copies."""
        self.key.momentum = rising_momentum(self.key_momentum, step, self.total_steps)
        self.key.follow_(self.encoder, [self.projector])
        return {}
