"""Kin by augmentation."""

from __future__ import annotations

from torch import Tensor

from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs
from kinshot.samples.batch import Batch, Shown


@KINS.register("views")
class ViewsKin(Kin):
    """The views of one sample are kin, all other samples of the batch are told apart.

    Paper: Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709
    """

    def __init__(self, known: Known) -> None:
        self.known = known

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, each kin to the other rows of its sample."""
        return Pairs(z, constructors.views(batch.indices, len(shown.views)))
