"""TS2Vec."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.temporal.hierarchical import hierarchical_terms
from kinshot.samples.batch import Batch
from kinshot.ssl.modalities import Windows
from kinshot.ssl.sequences import encoders_of, mean_terms, sequences, shown_by


@METHODS.register("ts2vec")
class TS2Vec(Method):
    """Each step is found again in another crop of its window: among other windows, and among the other steps, at every scale of time.

    Paper: Yue, Wang, Duan, Yang, Huang, Tong, Xu 2021, arXiv 2106.10466

    Two views that are crops at their places (views `crops`), and encoder `tcn`, some of whose steps are hidden behind the projection of
    each step, others in each view. Where both crops hold a step, it is compared; windows that overlap are not told apart. Each modality
    has a network and a loss of its own, of which the mean over those that are there is taken: what one lacks changes nothing in another.
    Memory grows as B T^2 + T B^2 of T steps.

    Departures: the released code joins all channels and leaves out a step where one of them was not measured, so that a modality that is
        missing leaves nothing of a window; crops overlap where they lie and not, shifted, each at another place; the average of the
        weights, which encodes there, is `train.ema`; no dropout, whose masks would not be keyed.

    Args:
        mask: probability that a step is hidden; 0 for encoders that cannot hide any.
        alpha: weight of the instance term, from 0 to 1; the temporal term has the rest.
        finest: scales, from the finest, that the temporal term leaves out.
    """

    accepts = ("series", "bundle")
    uses = ()

    def __init__(self, model: Model, context: RunContext, *, mask: float = 0.5, alpha: float = 0.5, finest: int = 0) -> None:
        super().__init__(model)
        encoders = encoders_of(model, "ts2vec")
        if not 0 <= mask < 1 or not 0 <= alpha <= 1 or finest < 0:
            wanted = "mask must be from 0 to below 1, alpha from 0 to 1 and finest at least 0"
            raise ConfigError(f"ts2vec: {wanted}, got {mask}, {alpha} and {finest}: try 0.5, 0.5 and 0")
        blind = [name for name, encoder in encoders.items() if not getattr(encoder, "hides_steps", False)]
        if mask and blind:
            raise ConfigError(f"ts2vec hides steps, which the encoder of {', '.join(blind)} cannot: take tcn, or set method.mask=0")
        self.lengths = {name: encoder.input.shape[1] for name, encoder in encoders.items()}
        self.mask, self.alpha, self.finest = mask, alpha, finest
        self.seed, self.windows = context.seed, Windows(context, model.input)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Each modality's steps in both views, in one pass, and the features, all with the steps of this batch hidden."""
        return sequences(self.model, batch, range(2), names, hidden=self.hidden(batch) if self.mask else None)

    def hidden(self, batch: Batch) -> dict[str, Tensor]:
        """By modality the steps, bool (2 B, T), that are hidden in each view, drawn by the step of the run."""
        found = {}
        for number, (name, length) in enumerate(self.lengths.items()):
            draws = [
                torch.rand(len(batch.indices), length, generator=keyed_generator(self.seed, "ts2vec mask", batch.step, view, number))
                for view in range(2)
            ]
            found[name] = torch.cat(draws).to(batch.indices.device) < self.mask
        return found

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The weighted sum of both terms, `instance` and `temporal`."""
        relation, found = self.windows.of(batch.indices), []
        for name in shown_by(outputs, list(self.lengths)):
            (first, second), (one, other) = outputs.blocks(f"{name}/sequence"), outputs.blocks(f"{name}/valid")
            terms = hierarchical_terms(first, second, relation, valid=one & other, finest=self.finest)
            found.append({"loss": self.alpha * terms["instance"] + (1 - self.alpha) * terms["temporal"], **terms})
        return mean_terms(found)
