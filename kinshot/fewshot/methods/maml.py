"""MAML and ANIL: a start from which a few gradient steps on a task's support set solve its queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.fewshot.adaptation import Adaptation, Statistics, follow_statistics, maml_scores, normalised_by, unfused
from kinshot.fewshot.inner_loop import linear_scores
from kinshot.fewshot.training_episodes import EpisodeShape, episode_order
from kinshot.fewshot.transforms import one_hot
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.samples.batch import Batch, Shown


@METHODS.register("maml")
class MAML(Method):
    """Encoder and linear head trained to solve a task's queries after a few gradient steps on its support set.

    theta_task = theta - lr * d/dtheta CE(support), `inner_steps` times; the loss is CE(query; theta_task), averaged over tasks and
    differentiated in theta through the steps. The head has a row for each way, and its start is `network` (weight, bias).

    Batch normalisation, `statistics`: with `batch`, as in the paper's code and learn2learn, each set is normalised by its own
    statistics, the support set in the steps and the query set after them; the queries of a task then see each other, while training
    and at test time, and the accuracy is transductive. With `running` both use the running statistics, and nothing leaks. In both
    cases the running statistics follow the start, by one pass of the whole batch for each step of training, so that features in
    evaluation mode are those of the start.

    Paper: Finn, Abbeel, Levine, 2017, arXiv 1703.03400; adapt=head is ANIL: Raghu, Raghu, Bengio, Vinyals, 2019, arXiv 1909.09157
    Departures: one step size for all parameters, not learned; always in float32, as second derivatives lose too much in bfloat16.

    Args:
        adapt: what the steps move: the whole network (MAML), or the head alone on features of the start (ANIL, see there).
        ways: classes of an episode, at test time too.
        shots: support images of each class; the paper trains with the number that is tested.
        queries: query images of each class.
        tasks: episodes in a batch; the paper takes 4 (1 shot) or 2 (5 shots) on miniImageNet, 32 on Omniglot.
        inner_steps: steps on the support set; 0 trains the start itself.
        inner_lr: their size.
        first_order: take the steps' gradients for constants, which spares their derivatives (FOMAML).
        statistics: what batch normalisation uses, see above; for the head alone see anil.
    """

    supervised = True
    trains_head = "maml"
    view_count = 1
    uses = ()

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        adapt: Literal["network", "head"] = "network",
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        tasks: int = 1,
        inner_steps: int = 5,
        inner_lr: float = 0.01,
        first_order: bool = False,
        statistics: Literal["batch", "running"] = "batch",
    ) -> None:
        super().__init__(model)
        self.adapt = adapt
        if adapt == "network" and not all(weight.requires_grad for weight in self.encoder.parameters()):
            raise ConfigError("method maml adapts the whole encoder, and train.freeze keeps parts of it: set method=anil, or no freeze")
        self.shape, self.how = EpisodeShape(ways, shots, queries, tasks), Adaptation(inner_steps, inner_lr, first_order, statistics)
        self.order = episode_order("maml", context, self.shape)
        model.network = initial_head(model, ways, context.seed)

    @property
    def network(self) -> nn.Linear:
        """The head's start."""
        return cast(nn.Linear, self.model.network)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """The start's own word on every sample of the batch, if a term asks: the adapted networks see a task at a time."""
        return started(self.model, batch, names)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Cross-entropy of the queries after adaptation, and the share that is classified right."""
        if self.adapt == "head":
            return head_loss(self.encoder, self.network, batch.views[0], self.shape, self.how)
        return network_loss(self.encoder, self.network, batch.views[0], self.shape, self.how)


@METHODS.register("anil")
class ANIL(Method):
    """MAML whose steps move the linear head alone, on features of the start: what the head anil continues.

    Batch normalisation, `statistics`: with `batch` the whole batch, support and queries of all its tasks, is normalised together
    while training, so that a task's queries are seen in its steps; with `running` by the running statistics, which follow as in
    maml. At test time features come from running statistics in both cases, and nothing leaks.

    Paper: Raghu, Raghu, Bengio, Vinyals, 2019, arXiv 1909.09157
    Departures: learn2learn's example normalises the batch of one task at a time, and again so at test time.

    Args:
        ways: classes of an episode, at test time too.
        shots: support images of each class.
        queries: query images of each class.
        tasks: episodes in a batch.
        inner_steps: steps on the support set; 0 trains the start itself.
        inner_lr: their size.
        first_order: take the steps' gradients for constants.
        statistics: what batch normalisation uses while training, see above.
    """

    supervised = True
    trains_head = "anil"
    view_count = 1
    uses = ()

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        tasks: int = 1,
        inner_steps: int = 5,
        inner_lr: float = 0.01,
        first_order: bool = False,
        statistics: Literal["batch", "running"] = "batch",
    ) -> None:
        super().__init__(model)
        self.shape, self.how = EpisodeShape(ways, shots, queries, tasks), Adaptation(inner_steps, inner_lr, first_order, statistics)
        self.order = episode_order("anil", context, self.shape)
        model.network = initial_head(model, ways, context.seed)

    @property
    def network(self) -> nn.Linear:
        """The head's start."""
        return cast(nn.Linear, self.model.network)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """The start's own word on every sample of the batch, if a term asks: the adapted networks see a task at a time."""
        return started(self.model, batch, names)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Cross-entropy of the queries after the head's adaptation, and the share that is classified right."""
        return head_loss(self.encoder, self.network, batch.views[0], self.shape, self.how)


def started(model: Model, batch: Batch, names: Sequence[str]) -> Outputs:
    """What a model says of the batch before anything adapts it; nothing where no name is given, which spares the pass."""
    return outputs_of(model, batch, (0,), names) if names else Outputs({}, Shown(batch.indices, (0,), (batch.views[0],)))


def initial_head(model: Model, ways: int, seed: int) -> nn.Linear:
    """The head's untrained start: a row and a bias for each way, drawn from the run's seed."""
    with keyed_initialisation(seed, "init adapted head"):
        return nn.Linear(model.dim, ways)


def network_loss(encoder: nn.Module, head: nn.Linear, samples: Tensor, shape: EpisodeShape, how: Adaptation) -> dict[str, Tensor]:
    """Loss and accuracy of a batch of episodes (B, ...) after encoder and head were adapted to each."""
    if encoder.training:
        follow_statistics(encoder, samples)
    support, labels, query, target = shape.sets(samples)
    start = dict(head.named_parameters())
    return _outcome(maml_scores(encoder, start, support, labels, query, shape.ways, how), target)


def head_loss(encoder: nn.Module, head: nn.Linear, samples: Tensor, shape: EpisodeShape, how: Adaptation) -> dict[str, Tensor]:
    """Loss and accuracy of a batch of episodes (B, ...) after the head alone was adapted to each."""
    features = _start_features(encoder, samples, how.statistics)
    with torch.autocast(samples.device.type, enabled=False):
        support, labels, query, target = shape.sets(features.to(head.weight.dtype))
        hot = one_hot(labels, shape.ways, support)
        scores = linear_scores(
            support, hot, query, head.weight, head.bias, steps=how.steps, lr=how.lr, first_order=how.first_order
        )  # fmt: skip
        return _outcome(scores, target)


def _start_features(encoder: nn.Module, samples: Tensor, statistics: Statistics) -> Tensor:
    """Features (B, D) of the start. The steps do not differentiate the encoder, so that it may take its fused path."""
    if statistics == "batch" or not encoder.training:
        return encoder(samples)
    follow_statistics(encoder, samples)
    with unfused(encoder), normalised_by(encoder, "running"):  # a fused block would normalise by the batch
        return encoder(samples)


def _outcome(scores: Tensor, target: Tensor) -> dict[str, Tensor]:
    loss = F.cross_entropy(scores.flatten(0, 1), target.flatten())
    return {"loss": loss, "accuracy": (scores.detach().argmax(-1) == target).float().mean()}
