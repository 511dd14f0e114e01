"""PsCo."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.queue import KeyQueue, embedding_dim, queue_length
from kinshot.kin import constructors as kin
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.objectives.common import check_above, full_precision, unit
from kinshot.objectives.info_nce import key_info_nce
from kinshot.objectives.sup_con import sup_con
from kinshot.samples.batch import Batch
from kinshot.ssl.predictor import predictor_of, slow_copies
from kinshot.ssl.sinkhorn import sinkhorn


@METHODS.register("psco")
class PsCo(Method):
    """MoCo with a predictor, and each batch an episode: images are queries, keys of the queue that are shared out to them are support.

    Paper: Jang, Lee, Shin 2023, arXiv 2303.00996.

    The queue's keys are shared out among the batch's keys by Sinkhorn's rounds; the `shots` largest shares of an image are its way's
    support, the other images' support is told apart from it. As in the released code the episode's term weighs as much as MoCo's, and the
    step's own keys join the queue after it; there the slow copies' batch normalisation follows that of the networks, here it has its own.
    The paper classifies predictions of queries by projections of the support; evaluation here has one feature for both.

    Args:
        queue: keys kept, rounded down to a multiple of the batch; 0 is N / 2, at most 4096.
        shots: support of a way.
        temperature: divides every cosine similarity of MoCo's loss.
        episode_temperature: the same of the episode's loss.
        key_momentum: share of the slow copies that stays in a step.
        hidden: width of the predictor's inner layer; 0 is the projection's width.
        epsilon: divides cosines before they are shared out; small ones give each key to few images.
        rounds: of Sinkhorn's normalisation.
    """

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        queue: int = 0,
        shots: int = 1,
        temperature: float = 0.2,
        episode_temperature: float = 1.0,
        key_momentum: float = 0.99,
        hidden: int = 0,
        epsilon: float = 0.05,
        rounds: int = 3,
    ) -> None:
        super().__init__(model)
        for name, value in (("temperature", temperature), ("episode_temperature", episode_temperature), ("epsilon", epsilon)):
            check_above(name, value)
        length = queue_length(queue, context.batch_size, context.num_samples)
        if not 1 <= shots <= length or rounds < 1:
            raise ConfigError(f"psco: expected shots from 1 to {length}, the queue's keys, and rounds from 1, got {shots} and {rounds}")
        self.predictor = predictor_of(model, context, hidden)
        self.key = slow_copies(self, context, key_momentum)
        self.queue = KeyQueue(length, embedding_dim(self.encoder, self.projector), context.seed)
        self.shots, self.temperature, self.episode_temperature = shots, temperature, episode_temperature
        self.epsilon, self.rounds = epsilon, rounds
        self._keys: Tensor | None = None

    def prepare(self, extract: Extract) -> None:
        """Start the slow copies where the networks are."""
        self.key.synchronize_(self.encoder, [self.projector])

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """The first view: queries of both losses."""
        return outputs_of(self.model, batch, (0,), [*self.uses, *names])

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """MoCo's loss of predictions and keys, and SupCon of predictions and the batch's support."""
        predicted = self.predictor(outputs["projector"])
        self._keys = unit(self.key(batch.views[1], step).float())
        contrast = key_info_nce(predicted, self._keys, self.queue.keys, self.temperature, normalize="anchors")
        support = self._support(self._keys)
        way = torch.arange(len(support), device=support.device)
        relation = kin.labels(way, way.repeat_interleave(self.shots))
        refs = self.queue.keys[support.flatten()]
        episode = sup_con(predicted, relation, refs, temperature=self.episode_temperature, normalize="anchors")
        return {"loss": contrast + episode, "contrast": contrast.detach(), "episode": episode.detach()}

    @torch.no_grad()
    def _support(self, keys: Tensor) -> Tensor:
        """Rows of the queue that are each image's support, int64 (B, shots), largest share first."""
        with full_precision(keys):
            return sinkhorn(keys @ self.queue.keys.T / self.epsilon, self.rounds).topk(self.shots, dim=1).indices

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the slow copies and enqueue the step's keys."""
        self.key.follow_(self.encoder, [self.projector])
        if self._keys is not None:
            self.queue.enqueue_(self._keys)
            self._keys = None
        return {}
