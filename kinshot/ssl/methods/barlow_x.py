"""Barlow Twins across modalities."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.barlow_twins import barlow_twins_terms
from kinshot.objectives.common import check_at_least
from kinshot.samples.batch import Batch
from kinshot.ssl.agreement import agreement
from kinshot.ssl.modalities import compared, core_of, seen


@METHODS.register("barlow_x")
class BarlowX(Method):
    """Each feature correlates with the same feature of the other modalities over the batch, and with no other; nothing is a negative.

    Paper: Zbontar, Jing, Misra, LeCun, Deny 2021, arXiv 2103.03230

    The loss of two views is taken of two modalities, as the mean over pairs of modalities, each over the samples that have both: as many
    as `projector.dim` or more are wanted. `intra` compares two augmented views of each modality as well.

    Departures: in the paper two views are compared; modalities in their place, the mean over their pairs, and `intra` are ours.

    Args:
        redundancy: weight of what is off the diagonal of the correlations; about 1 / `projector.dim` balances both terms.
        intra: weight of the same loss of two views of each modality; above 0 it takes two augmented views of each sample.
        core: a modality that every pair holds; empty for all pairs.
    """

    accepts = ("bundle",)

    def __init__(self, model: Model, context: RunContext, *, redundancy: float = 5.1e-3, intra: float = 0.0, core: str = "") -> None:
        super().__init__(model)
        self.uses = compared(model, "barlow_x")
        check_at_least(0, redundancy=redundancy, intra=intra)
        self.weights = {"invariance": 1.0, "redundancy": redundancy}
        self.intra, self.view_count, self.core = intra, 2 if intra else 1, core_of(core, self.uses, "barlow_x")

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The sum, its two terms unweighted, `within` where views are compared, and the share of modalities that are there."""
        return agreement(_terms, self.weights, seen(self.model, outputs, batch, self.uses), self.intra, self.core)


def _terms(first: Tensor, second: Tensor, both: Tensor) -> dict[str, Tensor]:
    return barlow_twins_terms(first, second, present=both)
