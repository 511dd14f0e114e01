"""SimCLR."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as kin
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.nt_xent import nt_xent
from kinshot.samples.batch import Batch


@METHODS.register("simclr")
class SimCLR(Method):
    """The views of an image attract, all other views of the batch repel.

    Paper: Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709.

    Views of one size pass the networks as one batch of 2B, so that batch normalisation sees both, as in the paper's code. Of more than
    two views, which the paper does not have, every other view of an image is a positive of its own, as in SupCon.

    Args:
        temperature: divides every cosine similarity.
        views: of each sample, 2 or more; 0 is as many as `views.views` gives.
    """

    def __init__(self, model: Model, context: RunContext, *, temperature: float = 0.5, views: int = 0) -> None:
        super().__init__(model)
        if not temperature > 0:
            raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
        if context.batch_size < 2:
            raise ConfigError(f"simclr: expected a batch of at least 2, got {context.batch_size}: negatives come from the batch")
        if views < 0 or views == 1:
            raise ConfigError(f"simclr: views is at least 2, or 0 for as many as views.views gives, got {views}")
        self.temperature, self.view_count = temperature, views or 2

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """NT-Xent over all views of the batch; rows of one sample are kin."""
        return {"loss": nt_xent(outputs["projector"], kin.views(batch.indices, self.view_count), temperature=self.temperature)}
