"""Decoupled contrastive learning."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as kin
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import check_above, check_at_least, full_precision, unit
from kinshot.objectives.info_nce import info_nce
from kinshot.samples.batch import Batch


@METHODS.register("dcl")
class DCL(Method):
    """SimCLR with the positive pair left out of the denominator, so that small batches do; with `sigma`, easy pairs weigh less (DCLW).

    Paper: Yeh, Hong, Hsu, Liu, Chen, LeCun 2021, arXiv 2110.06848.

    Views of one size pass the networks as one batch of 2B, as for `simclr`.

    Args:
        temperature: divides every cosine similarity.
        sigma: of DCLW, which weighs the similarity of pair i by 2 - B softmax_i(similarity / sigma): 0.5 in the paper; 0 for DCL.
    """

    def __init__(self, model: Model, context: RunContext, *, temperature: float = 0.1, sigma: float = 0.0) -> None:
        super().__init__(model)
        check_above("temperature", temperature)
        check_at_least(0, sigma=sigma)
        if context.batch_size < 2:
            raise ConfigError(f"dcl: expected a batch of at least 2, got {context.batch_size}: negatives come from the batch")
        self.temperature, self.sigma = temperature, sigma

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The decoupled loss over both views of the batch; rows of one sample are kin."""
        z = outputs["projector"]
        loss = info_nce(z, kin.views(batch.indices), temperature=self.temperature, denominator="negatives")
        return {"loss": loss if not self.sigma else loss + self._reweighted(*outputs.blocks("projector"))}

    def _reweighted(self, first: Tensor, second: Tensor) -> Tensor:
        """What weights other than 1 add to the loss: the mean of (1 - w) s / t, the same in both directions."""
        with full_precision(first):
            similarity = (unit(first.float()) * unit(second.float())).sum(1)
            surplus = len(similarity) * (similarity.detach() / self.sigma).softmax(0) - 1
            return (surplus * similarity).mean() / self.temperature
