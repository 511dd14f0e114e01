"""TiCo."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.queue import embedding_dim
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.objectives.common import full_precision, unit
from kinshot.samples.batch import Batch
from kinshot.ssl.predictor import rising_momentum, slow_copies


@METHODS.register("tico")
class TiCo(Method):
    """A view agrees with what slow copies of the networks see in the other one, and avoids where projections lay in past batches.

    Paper: Zhu, Moraes, Karakulak, Sobol, Canziani, LeCun 2022, arXiv 2206.10698.

    A moving second moment C of unit projections stands for a bank of negatives without end. Each view passes the networks on its own.

    Args:
        rho: weight of z C z, by which projections avoid where others lay.
        beta: share of C that stays in a step.
        key_momentum: share of the slow copies that stays in a step at the beginning; it rises to 1 along half a cosine.
    """

    moment: Tensor

    def __init__(self, model: Model, context: RunContext, *, rho: float = 8.0, beta: float = 0.9, key_momentum: float = 0.99) -> None:
        super().__init__(model)
        if rho < 0 or not 0 <= beta < 1:
            raise ConfigError(f"tico: rho is at least 0 and beta from 0 to below 1, got {rho} and {beta}")
        self.key = slow_copies(self, context, key_momentum)
        dim = embedding_dim(self.encoder, self.projector)
        self.register_buffer("moment", torch.zeros(dim, dim))
        self.rho, self.beta, self.key_momentum, self.total_steps = rho, beta, key_momentum, context.total_steps
        self._moment: Tensor | None = None

    def prepare(self, extract: Extract) -> None:
        """Start the slow copies where the networks are."""
        self.key.synchronize_(self.encoder, [self.projector])

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """The first view alone."""
        return outputs_of(self.model, batch, (0,), [*self.uses, *names])

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """1 - mean cosine + rho * mean of z C z, and both terms, with C of this batch and those before; C takes no gradient."""
        key = self.key(batch.views[1], step)
        z = outputs["projector"]
        with full_precision(z):
            z = unit(z.float())
            moment = self.beta * self.moment + (1 - self.beta) * (z.T @ z).detach() / len(z)
            terms = {"invariance": 1 - (z * unit(key.float())).sum(1).mean(), "contrast": ((z @ moment) * z).sum(1).mean()}
        # kept for after_step: a step that diverges must leave no trace
        self._moment = moment
        return {"loss": terms["invariance"] + self.rho * terms["contrast"], **terms}

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the slow copies and keep the second moment."""
        self.key.momentum = rising_momentum(self.key_momentum, step, self.total_steps)
        self.key.follow_(self.encoder, [self.projector])
        if self._moment is not None:
            self.moment.copy_(self._moment)
            self._moment = None
        return {}
