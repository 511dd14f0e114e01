"""DINO."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.momentum import follow_, momentum_copy
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import check_above, check_at_least, full_precision
from kinshot.samples.batch import Batch
from kinshot.ssl.predictor import rising_momentum, slow_copies
from kinshot.ssl.prototypes import Prototypes


@METHODS.register("dino")
class DINO(Method):
    """Every view says the sharp class that slow copies of the networks give the first two views, out of classes that nobody named.

    Paper: Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin 2021, arXiv 2104.14294.

    Classes are rows that unit projections are compared with. A moving mean of what the copies say is taken off it, so that no class is
    said of everything; the low temperature keeps it from being spread over all. Views beyond the first two (`views=multi_crop`) are asked
    and say nothing.

    Args:
        views: of each sample, 2 or more; 0 is as many as `views.views` gives.
        prototypes: how many classes; 0 is a thirtieth of the samples, 10 to 3000.
        temperature: of the networks.
        teacher_temperature: of the slow copies, lower.
        center_momentum: share of the mean that stays in a step.
        key_momentum: share of the slow copies that stays in a step at the beginning; it rises to 1 along half a cosine.
        frozen_epochs: epochs in which the rows stay where they were drawn.
    """

    center: Tensor

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        views: int = 0,
        prototypes: int = 0,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
        key_momentum: float = 0.996,
        frozen_epochs: int = 1,
    ) -> None:
        super().__init__(model)
        check_above("temperature", temperature)
        check_above("teacher_temperature", teacher_temperature)
        check_at_least(0, frozen_epochs=frozen_epochs)
        if views < 0 or views == 1 or not 0 <= center_momentum < 1:
            problem = f"got {views} and {center_momentum}"
            raise ConfigError(f"dino: views is at least 2 (or 0) and center_momentum from 0 to below 1, {problem}")
        self.prototypes = Prototypes(model, context, prototypes)
        self.key, self.key_prototypes = slow_copies(self, context, key_momentum), momentum_copy(self.prototypes)
        self.register_buffer("center", torch.zeros(len(self.prototypes.weight)))
        self.view_count, self.temperature, self.teacher_temperature = views or 2, temperature, teacher_temperature
        self.center_momentum, self.key_momentum, self.total_steps = center_momentum, key_momentum, context.total_steps
        self._frozen = frozen_epochs * context.steps_per_epoch
        self._said: Tensor | None = None

    def prepare(self, extract: Extract) -> None:
        """Start the slow copies where the networks are."""
        self.key.synchronize_(self.encoder, [self.projector])

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Mean cross-entropy of what a view says with what the slow copies say of each of the first two views but itself."""
        keys = [self.key(batch.views[view], step) for view in range(2)]
        with full_precision(outputs["projector"]):
            logits = [self.prototypes(z, still=step < self._frozen) / self.temperature for z in outputs.blocks("projector")]
            said = [self.key_prototypes(key) for key in keys]
            targets = [((one - self.center) / self.teacher_temperature).softmax(1) for one in said]
            pairs = [(v, said_of) for said_of in range(2) for v in range(len(logits)) if v != said_of]
            loss = torch.stack([F.cross_entropy(logits[v], targets[said_of]) for v, said_of in pairs]).mean()
        # kept for after_step: a step that diverges must leave no trace
        self._said = torch.cat(said).mean(0)
        return {"loss": loss}

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the slow copies and the mean of what they say."""
        self.key.momentum = rising_momentum(self.key_momentum, step, self.total_steps)
        self.key.follow_(self.encoder, [self.projector])
        follow_(self.key_prototypes, self.prototypes, self.key.momentum)
        if self._said is not None:
            self.center.lerp_(self._said, 1 - self.center_momentum)
            self._said = None
        return {}
