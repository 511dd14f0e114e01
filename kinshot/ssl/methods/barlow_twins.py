"""Barlow Twins."""

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
from kinshot.objectives.barlow_twins import barlow_twins_terms
from kinshot.objectives.common import check_at_least
from kinshot.samples.batch import Batch


@METHODS.register("barlow_twins")
class BarlowTwins(Method):
    """Each feature of one view correlates with the same feature of the other over the batch, and with no other; nothing is a negative.

    Paper: Zbontar, Jing, Misra, LeCun, Deny 2021, arXiv 2103.03230.

    Each view passes the networks on its own, as in the released code, whose projector has three layers and is wide. For sensors side by
    side there is `barlow_x`.

    Args:
        redundancy: weight of what is off the diagonal of the correlations; about 1 / `projector.dim` balances both terms.
    """

    def __init__(self, model: Model, context: RunContext, *, redundancy: float = 5.1e-3) -> None:
        super().__init__(model)
        check_at_least(0, redundancy=redundancy)
        self.weights = {"invariance": 1.0, "redundancy": redundancy}
        if context.batch_size < 2:
            raise ConfigError(f"barlow_twins: expected a batch of at least 2, got {context.batch_size}: features vary over the batch")

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Both views, each on its own."""
        return outputs_of(self.model, batch, (0, 1), [*self.uses, *names], joint=False)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The sum, and its two terms unweighted."""
        terms = barlow_twins_terms(*outputs.blocks("projector"))
        return {"loss": torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum(), **terms}
