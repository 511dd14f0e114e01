"""VICReg."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.objectives.common import check_at_least
from kinshot.objectives.vicreg import vicreg_terms
from kinshot.samples.batch import Batch


@METHODS.register("vicreg")
class VICReg(Method):
    """Two views coincide, every feature varies over the batch and no two features say the same; nothing is a negative.

    Paper: Bardes, Ponce, LeCun 2021, arXiv 2105.04906.

    Each view passes the networks on its own, as in the released code, whose projector has three layers and is wide. For sensors side by
    side there is `vicreg_x`.

    Args:
        invariance: weight of the mean squared difference.
        variance: weight of the hinge on standard deviations.
        covariance: weight of the squared covariances.
    """

    def __init__(
        self, model: Model, context: RunContext, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
    ) -> None:
        super().__init__(model)
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        check_at_least(0, **self.weights)
        if context.batch_size < 2:
            raise ConfigError(f"vicreg: expected a batch of at least 2, got {context.batch_size}: features vary over the batch")

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Both views, each on its own."""
        return outputs_of(self.model, batch, (0, 1), [*self.uses, *names], joint=False)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The sum, and its three terms unweighted."""
        terms = vicreg_terms(*outputs.blocks("projector"))
        return {"loss": torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum(), **terms}
