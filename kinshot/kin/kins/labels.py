"""Kin by class."""

from __future__ import annotations

from torch import Tensor

from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs, at
from kinshot.samples.batch import Batch, Shown


@KINS.register("labels", labelled=True, classes=True)
class LabelsKin(Kin):
    """Members of a class are kin, members of other classes are told apart; samples of unknown class are neither.

    Paper: Khosla et al. 2020, arXiv 2004.11362

    Args:
        attribute: classes by another name than the label, such as `coarse`; empty for the label.
    """

    def __init__(self, known: Known, *, attribute: str = "") -> None:
        self.labels = known.classes(attribute, "labels")
        self.classes = int(self.labels.max()) + 1 if len(self.labels) else 0

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, by the class of what they show."""
        y = at(self.labels, shown)
        return Pairs(z, constructors.labels(y), y=y)
