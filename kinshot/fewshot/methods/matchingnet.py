"""Matching networks."""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.fewshot.full_context import FullContext
from kinshot.fewshot.heads.matching import attention_scores
from kinshot.fewshot.training_episodes import EpisodeShape, episode_order
from kinshot.fewshot.transforms import one_hot
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import at_least_float32, full_precision
from kinshot.samples.batch import Batch


@METHODS.register("matchingnet")
class MatchingNet(Method):
    """Episodes whose queries attend to the support images and take over their labels.

    The loss is the mean of -log P(c | q), P as in the head `matching`, on the backbone's features, which full context embeddings
    adapt to the episode first. These are trained here, and the head is given them at test time.

    Paper: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, 2016, arXiv 1606.04080
    Departures: the support is read in an order that is a function of the set (`full_context`), unless `order` says otherwise;
    the number of read-outs is not in the paper.

    Args:
        ways: classes of an episode.
        shots: support images of each class.
        queries: query images of each class.
        tasks: episodes in a batch.
        full_context: whether features are put in the context of the support set, by LSTMs over it.
        steps: read-outs of the support set for a query; 0 is one for each support image, also at test time.
        order: how training reads the support: canonical, as the head does, or given, the episode's random order of classes (the paper).
        variant: similarity and floor of the logarithm, as in the head `matching`; paper and log train the same.
        temperature: divides the similarity; cosines end at 1, so that 1 (the paper) attends softly.
    """

    supervised = True
    trains_head = "matching"
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
        full_context: bool = True,
        steps: int = 5,
        order: Literal["canonical", "given"] = "canonical",
        variant: Literal["paper", "log", "easyfsl", "closerlook"] = "paper",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(model)
        if not temperature > 0:
            raise ConfigError(f"matchingnet: temperature must be positive, got {temperature}")
        self.shape = EpisodeShape(ways, shots, queries, tasks)
        self.order = episode_order("matchingnet", context, self.shape)
        self.variant, self.temperature = variant, temperature
        if full_context:
            with keyed_initialisation(context.seed, "init full context"):
                model.network = FullContext(model.dim, steps=steps, order=order)

    @property
    def network(self) -> FullContext | None:
        """What puts features in the context of their episode, if anything does."""
        return cast(FullContext | None, self.model.network)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Negative log-likelihood of the queries' ways, and the share that is classified right."""
        return matching_loss(outputs["backbone"], self.shape, self.network, variant=self.variant, temperature=self.temperature)


def matching_loss(z: Tensor, shape: EpisodeShape, network: FullContext | None, *, variant: str, temperature: float) -> dict[str, Tensor]:
    """Mean negative log-likelihood and accuracy of a batch of episodes of features (B, D), in float32 or better also under autocast."""
    with full_precision(z):
        support, ways, query, target = shape.sets(at_least_float32(z))
        hot = one_hot(ways, shape.ways, support)
        if network is not None:
            support, query = network(support, query)
        scores = attention_scores(support, hot, query, "log" if variant == "paper" else variant, temperature)
        loss = nn.functional.nll_loss(scores.flatten(0, 1), target.flatten())
    return {"loss": loss, "accuracy": (scores.detach().argmax(-1) == target).float().mean()}
