"""TNC."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.datasets.orders.consecutive import Consecutive
from kinshot.encoders.build import keyed_initialisation
from kinshot.kin.recordings import neighborhood
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.temporal.tnc import tnc_terms
from kinshot.samples.batch import Batch
from kinshot.ssl.modalities import Windows
from kinshot.ssl.sequences import encoders_of, mean_terms, sequences, shown_by


@METHODS.register("tnc")
class TNC(Method):
    """A discriminator tells pairs of windows that are near in time from pairs of one recording that are far apart.

    Paper: Tonekaboni, Eytan, Goldenberg 2021, arXiv 2106.00750

    One view, and batches of its own: sequences of consecutive windows (`orders.consecutive`), so that there are neighbours. Each modality
    has a discriminator of its own on the features of both windows, and all pairs of the batch are asked. Far windows are unlabelled rather
    than unlike, so that a part of their weight counts as near. Nothing is near across recordings. A modality that a window lacks is in no
    pair; the loss is the mean over the modalities that are there. It needs data with a clock.

    Departures: the neighbourhood is of one width, where the paper widens it until a Dickey-Fuller test finds the signal no longer
        stationary; neighbours are weighed by their distance, where there they are drawn; no dropout, whose masks would not be keyed.

    Args:
        weight: share of a far pair's weight that counts as near, from 0 to below 1; the paper's w for activities.
        spread: standard deviation of the neighbourhood, in lengths of a window.
        reach: up to how many spreads windows are near.
        others: whether windows of other recordings are far, too; they are in no pair otherwise.
        length: windows of a sequence; it divides the batch.
        spacing: a sequence takes every so many-th window of its recording.
        hidden: width of the discriminator.
    """

    accepts = ("series", "bundle")
    view_count = 1
    uses = ()

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        weight: float = 0.05,
        spread: float = 0.5,
        reach: float = 2.0,
        others: bool = False,
        length: int = 8,
        spacing: int = 1,
        hidden: int = 128,
    ) -> None:
        super().__init__(model)
        encoders = encoders_of(model, "tnc")
        check(weight, spread, reach, hidden)
        self.windows = Windows(context, model.input)
        if context.clock is None or self.windows.clock is None:
            raise ConfigError(
                "tnc needs to know when windows begin and in which recording, and the data does not say: choose data with a clock, such as "
                "motion or recordings, or another method"
            )
        start, recording = context.clock
        self.order = Consecutive(recording, start, context.batch_size, context.steps_per_epoch, context.seed, length, spacing)
        with keyed_initialisation(context.seed, "init tnc"):
            found = {f"of_{name}": Discriminator(encoder.dim, hidden) for name, encoder in encoders.items()}
        self.discriminators, self.modalities = nn.ModuleDict(found), tuple(encoders)
        self.weight, self.spread, self.reach, self.others = weight, spread * self.windows.seconds, reach, others

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Each modality's features beside those of the windows."""
        return sequences(self.model, batch, range(1), names)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The sum of both terms, `near` and `far`."""
        start, recording = self.windows.at(batch.indices)
        found = []
        for name in shown_by(outputs, self.modalities):
            there = recording.masked_fill(~outputs[f"{name}/valid"].any(1), -1)
            relation = neighborhood(start, there, self.spread, reach=self.reach, others=self.others)
            scores = self.discriminators[f"of_{name}"](outputs[f"{name}/pooled"])
            terms = tnc_terms(scores, relation, weight=self.weight)
            found.append({"loss": terms["near"] + terms["far"], **terms})
        return mean_terms(found)


class Discriminator(nn.Module):
    """Logits of all pairs of rows: a perceptron of one hidden layer on both side by side.

    Args:
        dim: features of a row.
        hidden: width.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        # a linear map of two rows side by side is the sum of one of each, which is taken once for every row and not for every pair
        self.first, self.second = nn.Linear(dim, hidden), nn.Linear(dim, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, dim) to (B, B), of row i and row j."""
        scores: Tensor = self.out((self.first(z).unsqueeze(1) + self.second(z)).relu())
        return scores.squeeze(2)


def check(weight: float, spread: float, reach: float, hidden: int) -> None:
    """Raise ConfigError for numbers out of range."""
    if not 0 <= weight < 1:
        raise ConfigError(f"tnc: weight must be from 0 to below 1, got {weight}: try 0.05")
    if not (spread > 0 and reach > 0) or hidden < 1:
        raise ConfigError(
            f"tnc: spread and reach must be above 0 and hidden at least 1, got {spread}, {reach} and {hidden}: try 0.5, 2 and 128"
        )
