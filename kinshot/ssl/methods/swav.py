"""SwAV."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.queue import KeyQueue, queue_length
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import check_above, check_at_least, full_precision, unit
from kinshot.samples.batch import Batch
from kinshot.ssl.prototypes import Prototypes
from kinshot.ssl.sinkhorn import sinkhorn


@METHODS.register("swav")
class SwAV(Method):
    """A view's place among prototypes is said by the other views, where places are shared out evenly over the batch.

    Paper: Caron, Misra, Mairal, Goyal, Bojanowski, Joulin 2020, arXiv 2006.09882.

    The first two views say places, by a few rounds of Sinkhorn and Knopp, and every other view (`views.views` may be more than 2) says them
    too. Places of a small batch are shared out over it and a queue of past projections.

    Args:
        views: of each sample, 2 or more; 0 is as many as `views.views` gives.
        prototypes: how many; 0 is a thirtieth of the samples, 10 to 3000.
        temperature: divides every cosine similarity.
        epsilon: of the shares: small for hard ones.
        rounds: of Sinkhorn and Knopp.
        queue: past projections of each of the first two views that take part; 0 is N / 2, at most 4096, and None is none.
        queue_from: epoch from which they do.
        frozen_epochs: epochs in which prototypes stay where they were drawn.
    """

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        views: int = 0,
        prototypes: int = 0,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        rounds: int = 3,
        queue: int | None = 0,
        queue_from: int = 1,
        frozen_epochs: int = 1,
    ) -> None:
        super().__init__(model)
        check_above("temperature", temperature)
        check_above("epsilon", epsilon)
        check_at_least(0, queue=queue or 0, queue_from=queue_from, frozen_epochs=frozen_epochs)
        if views < 0 or views == 1 or rounds < 1:
            raise ConfigError(f"swav: views is at least 2 (or 0) and rounds at least 1, got {views} and {rounds}")
        self.prototypes = Prototypes(model, context, prototypes)
        dim = self.prototypes.weight.shape[1]
        length = 0 if queue is None else queue_length(queue, context.batch_size, context.num_samples)
        self.queues = nn.ModuleList([KeyQueue(length, dim, context.seed) for _ in range(2)] if length else [])
        self.view_count, self.temperature, self.epsilon, self.rounds = views or 2, temperature, epsilon, rounds
        self._queue_from, self._frozen = (epochs * context.steps_per_epoch for epochs in (queue_from, frozen_epochs))
        self._rows: list[Tensor] = []

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Mean cross-entropy of a view's softmax over prototypes with each of the first two views' shares, its own left out."""
        with full_precision(outputs["projector"]):
            blocks = outputs.blocks("projector")
            scores = [self.prototypes(z, still=step < self._frozen) for z in blocks]
            losses = []
            for said in range(2):
                places = self._places(scores[said].detach(), said, step)
                losses += [F.cross_entropy(scores[v] / self.temperature, places) for v in range(len(scores)) if v != said]
        self._rows = [z.detach() for z in blocks[:2]]
        return {"loss": torch.stack(losses).mean()}

    def _places(self, scores: Tensor, view: int, step: int) -> Tensor:
        """Shares (B, K) of the rows of a view, those of the queue shared out with them."""
        count = len(scores)
        if self.queues and step >= self._queue_from:
            scores = torch.cat([self.prototypes(cast(KeyQueue, self.queues[view]).keys).detach(), scores])
        return sinkhorn(scores / self.epsilon, self.rounds)[-count:]

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Enqueue the step's projections."""
        for queue, rows in zip(self.queues, self._rows, strict=False):
            cast(KeyQueue, queue).enqueue_(unit(rows.float()))
        self._rows = []
        return {}
