"""SimSiam."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.samples.batch import Batch
from kinshot.ssl.predictor import predictor_of, toward


@METHODS.register("simsiam")
class SimSiam(Method):
    """Each view's prediction points where the other view's projection does, which is not moved by it; nothing is a negative.

    Paper: Chen, He 2020, arXiv 2011.10566.

    Each view passes the networks on its own, as in the released code. Its projector has three layers with a normalisation after the last
    (`projector.layers=3 projector.last_norm=true`), and its predictor a bottleneck of a quarter.

    Args:
        hidden: width of the predictor's inner layer; 0 is a quarter of the projection.
    """

    def __init__(self, model: Model, context: RunContext, *, hidden: int = 0) -> None:
        super().__init__(model)
        self.predictor = predictor_of(model, context, hidden, share=4)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Both views, each on its own."""
        return outputs_of(self.model, batch, (0, 1), [*self.uses, *names], joint=False)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Minus the mean cosine of prediction and projection, both directions averaged: -1 at best."""
        first, second = outputs.blocks("projector")
        predicted = [self.predictor(z) for z in (first, second)]
        return {"loss": (toward(predicted[0], second.detach()) + toward(predicted[1], first.detach())) / 2}
