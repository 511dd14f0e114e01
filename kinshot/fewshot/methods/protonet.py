"""Prototypical networks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.fewshot.training_episodes import EpisodeShape, episode_order
from kinshot.fewshot.transforms import class_means, similarity
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.samples.batch import Batch


@METHODS.register("protonet")
class ProtoNet(Method):
    """Episodes whose queries are classified by the nearest class mean of the support.

    P(c | q) is the softmax over classes of -d(z_q, p_c) / temperature, p_c the mean support feature, on the backbone's features.

    Paper: Snell, Swersky, Zemel, 2017, arXiv 1703.05175

    Args:
        ways: classes of an episode; more than at test time is the paper's advice.
        shots: support images of each class; the paper trains with the number that is tested.
        queries: query images of each class.
        tasks: episodes in a batch.
        distance: squared Euclidean (the paper), plain Euclidean, or cosine.
        temperature: divides the distance.
    """

    supervised = True
    view_count = 1
    uses = ("backbone",)

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        ways: int = 5,
        shots: int = 1,
        queries: int = 5,
        tasks: int = 1,
        distance: Literal["squared", "euclidean", "cosine"] = "squared",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(model)
        if not temperature > 0:
            raise ConfigError(f"protonet: temperature must be positive, got {temperature}")
        self.shape = EpisodeShape(ways, shots, queries, tasks)
        self.order = episode_order("protonet", context, self.shape)
        self.distance, self.temperature = distance, temperature

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Cross-entropy of the queries over the ways of their episode, and the share that is classified right."""
        return episode_loss(outputs["backbone"], self.shape, self.distance, self.temperature)


def episode_loss(z: Tensor, shape: EpisodeShape, distance: str, temperature: float) -> dict[str, Tensor]:
    """Mean cross-entropy and accuracy of a batch of episodes of features (B, D), in float32 also under autocast."""
    with torch.autocast(z.device.type, enabled=False):
        support, ways, query, target = shape.sets(z.float())
        scores = similarity(query, class_means(support, ways, shape.ways), distance) / temperature
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten())
    return {"loss": loss, "accuracy": (scores.detach().argmax(-1) == target).float().mean()}
