"""FEAT: an embedding that adapts to its task, trained with the set-to-set function that adapts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.fewshot.set_attention import SetAttention
from kinshot.fewshot.training_episodes import EpisodeShape, episode_order
from kinshot.fewshot.transforms import class_means, squared_distance
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import at_least_float32, full_precision
from kinshot.samples.batch import Batch

Adapt = Callable[[Tensor], Tensor]


@METHODS.register("feat")
class FEAT(Method):
    """Episodes whose queries are classified by class means that self-attention has adapted to their task.

    loss = CE(-||q - p'_c||^2 / temperature) + balance * CE(-||z - m_c||^2 / contrast_temperature), on the backbone's features:
    p' = network(p) of the support means; m_c the mean of network(all images of class c, support and query), to which every image z
    of the episode, not adapted, is to be closest. Start from an encoder that was trained to classify the base classes (`init`), as the
    paper does: from random weights this learns badly.

    Paper: Ye, Hu, Zhan, Sha, 2020, arXiv 1812.03664
    Departures: no dropout in the network (the released code has 0.5), and its learning rate is the encoder's (ten times that there).
    The released commands set temperatures of 16 to 128 and a balance of 10 (first version), later 0.01 to 1, by backbone and shots.

    Args:
        ways: classes of an episode.
        shots: support images of each class.
        queries: query images of each class.
        tasks: episodes in a batch.
        temperature: divides the distances to adapted class means.
        balance: weight of the contrastive term; 0 leaves it out.
        contrast_temperature: divides the distances in the contrastive term.
        freeze_encoder: train the network alone; the encoder keeps its weights and its running statistics.
    """

    supervised = True
    trains_head = "feat"
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
        temperature: float = 64.0,
        balance: float = 10.0,
        contrast_temperature: float = 64.0,
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__(model)
        for name, value in (("temperature", temperature), ("contrast_temperature", contrast_temperature)):
            if not value > 0:
                raise ConfigError(f"feat: {name} must be positive, got {value}")
        if not balance >= 0:
            raise ConfigError(f"feat: balance must be at least 0, got {balance}")
        self.shape = EpisodeShape(ways, shots, queries, tasks)
        self.order = episode_order("feat", context, self.shape)
        self.temperature, self.balance, self.contrast_temperature = temperature, balance, contrast_temperature
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            self.encoder.requires_grad_(False)
        with keyed_initialisation(context.seed, "init set attention"):
            model.network = SetAttention(model.dim)

    @property
    def network(self) -> SetAttention:
        """What adapts a set of features to itself."""
        return cast(SetAttention, self.model.network)

    def train(self, mode: bool = True) -> FEAT:
        """Switch to training, or to evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Both terms, their weighted sum, and the share of queries that is classified right."""
        z = outputs["backbone"]
        with full_precision(z):
            z = at_least_float32(z)
            terms = adapted_loss(z, self.shape, self.network, self.temperature)
            if self.balance:
                contrast = contrast_loss(z, self.shape, self.network, self.contrast_temperature)
                terms |= {"loss": terms["loss"] + self.balance * contrast, "contrast": contrast.detach()}
        return terms


def adapted_loss(z: Tensor, shape: EpisodeShape, network: Adapt, temperature: float) -> dict[str, Tensor]:
    """Cross-entropy of the queries against the adapted class means, as `loss` and `adapted`, and their `accuracy`.

    Args:
        z: features of a batch of episodes, (B, D).
        shape: size of the episodes.
        network: what adapts a set, (T, W, D) -> (T, W, D).
        temperature: divides the squared distances.
    """
    support, ways, query, target = shape.sets(z)
    logits = -squared_distance(query, network(class_means(support, ways, shape.ways))) / temperature
    found = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    return {"loss": found, "adapted": found.detach(), "accuracy": (logits.detach().argmax(-1) == target).float().mean()}


def contrast_loss(z: Tensor, shape: EpisodeShape, network: Adapt, temperature: float) -> Tensor:
    """Cross-entropy of all images of an episode against its classes' centres, the means of each class's adapted images.

    Arguments are those of `adapted_loss`; the network sees a class at a time, (T*W, K + Q, D).
    """
    images = z.view(shape.tasks, shape.ways, shape.shots + shape.queries, -1)
    centres = network(images.flatten(0, 1)).mean(1).unflatten(0, (shape.tasks, shape.ways))
    logits = -squared_distance(images.flatten(1, 2), centres) / temperature
    way = torch.arange(shape.ways, device=z.device).repeat_interleave(shape.shots + shape.queries)
    return nn.functional.cross_entropy(logits.flatten(0, 1), way.repeat(shape.tasks))
