"""NNCLR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.queue import KeyQueue, embedding_dim, queue_length
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.objectives.common import check_above, unit
from kinshot.samples.batch import Batch
from kinshot.ssl.predictor import predictor_of, told_apart


@METHODS.register("nnclr")
class NNCLR(Method):
    """A view's kin is not the other view but its nearest neighbour among projections of past batches; the batch repels.

    Paper: Dwibedi, Aytar, Tompson, Sermanet, Zisserman 2021, arXiv 2104.14548.

    Neighbours of one view are told from predictions of the other, both ways; negatives are the other predictions of the batch. The queue
    takes the first view's projections after the step.

    Args:
        queue: projections kept, rounded down to a multiple of the batch; 0 is N / 2, at most 4096.
        temperature: divides every cosine similarity.
        hidden: width of the predictor's inner layer; 0 is the projection's width.
    """

    def __init__(self, model: Model, context: RunContext, *, queue: int = 0, temperature: float = 0.1, hidden: int = 0) -> None:
        super().__init__(model)
        check_above("temperature", temperature)
        if context.batch_size < 2:
            raise ConfigError(f"nnclr: expected a batch of at least 2, got {context.batch_size}: negatives come from the batch")
        self.predictor = predictor_of(model, context, hidden)
        length = queue_length(queue, context.batch_size, context.num_samples)
        self.queue = KeyQueue(length, embedding_dim(self.encoder, self.projector), context.seed)
        self.temperature = temperature
        self._rows: Tensor | None = None

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Both views, each on its own."""
        return outputs_of(self.model, batch, (0, 1), [*self.uses, *names], joint=False)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """InfoNCE of each view's neighbour against the batch's predictions of the other, both ways averaged."""
        first, second = outputs.blocks("projector")
        predicted = [self.predictor(z) for z in (first, second)]
        losses = [told_apart(self._neighbours(z), p, self.temperature) for z, p in ((first, predicted[1]), (second, predicted[0]))]
        self._rows = first.detach()
        return {"loss": torch.stack(losses).mean()}

    @torch.no_grad()
    def _neighbours(self, z: Tensor) -> Tensor:
        """The nearest row of the queue, by cosine, of each row (B, D)."""
        keys = self.queue.keys
        return keys[(unit(z.float()) @ keys.T).argmax(1)]

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Enqueue the step's projections of the first view."""
        if self._rows is not None:
            self.queue.enqueue_(unit(self._rows.float()))
            self._rows = None
        return {}
