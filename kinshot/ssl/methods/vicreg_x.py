"""VICReg across modalities."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import check_at_least
from kinshot.objectives.vicreg import vicreg_terms
from kinshot.samples.batch import Batch
from kinshot.ssl.agreement import agreement
from kinshot.ssl.modalities import compared, core_of, seen


@METHODS.register("vicreg_x")
class VICRegX(Method):
    """Modalities of one instant coincide, every feature varies over the batch and no two say the same; nothing is a negative.

    Paper: Bardes, Ponce, LeCun 2021, arXiv 2105.04906

    The loss of two views is taken of two modalities, as the mean over pairs of modalities, each over the samples that have both. Without
    negatives, windows that overlap need no care. What one modality alone knows is asked for by nobody, unless two augmented views of it are
    compared as well: `intra`, 0.5 for example.

    Departures: in the paper two modalities are two views of the network; the mean over pairs, where there are more than two, and `intra`
        are ours.

    Args:
        invariance: weight of the mean squared difference.
        variance: weight of the hinge on standard deviations.
        covariance: weight of the squared covariances.
        intra: weight of the same loss of two views of each modality; above 0 it takes two augmented views of each sample.
        core: a modality that every pair holds; empty for all pairs.
    """

    accepts = ("bundle",)

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        intra: float = 0.0,
        core: str = "",
    ) -> None:
        super().__init__(model)
        self.uses = compared(model, "vicreg_x")
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        check_at_least(0, intra=intra, **self.weights)
        self.intra, self.view_count, self.core = intra, 2 if intra else 1, core_of(core, self.uses, "vicreg_x")

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The sum, its three terms unweighted, `within` where views are compared, and the share of modalities that are there."""
        return agreement(_terms, self.weights, seen(self.model, outputs, batch, self.uses), self.intra, self.core)


def _terms(first: Tensor, second: Tensor, both: Tensor) -> dict[str, Tensor]:
    return vicreg_terms(first, second, present=both)
