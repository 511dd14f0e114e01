"""Kin by class."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs, at
from kinshot.samples.batch import Batch, Shown


@KINS.register("labels", labelled=True, classes=True)
class LabelsKin(Kin):
    """Members of a class are kin, members of other classes are told apart; samples of unknown class are neither.

    Paper: Khosla et al. 2020, arXiv 2004.11362

    With `by`, kin or others are those of the anchor's own group alone, or those of other groups: across modalities, within a camera.

    Args:
        attribute: classes by another name than the label, such as `coarse`; empty for the label.
        by: an attribute whose values are groups, such as a modality or a camera; empty for none.
        positives: whose kin count: of "any" group, the "same" as the anchor's, or an "other".
        negatives: whose others count, the same way.
    """

    labels: Tensor

    def __init__(
        self,
        known: Known,
        *,
        attribute: str = "",
        by: str = "",
        positives: Literal["any", "same", "other"] = "any",
        negatives: Literal["any", "same", "other"] = "any",
    ) -> None:
        if not by and (positives, negatives) != ("any", "any"):
            raise ConfigError("kin labels: same and other are groups of an attribute, and by names none: add by=NAME")
        self.labels = known.classes(attribute, "labels")
        self.groups = torch.from_numpy(np.asarray(known.attribute(by, "labels"), dtype=np.int64)) if by else None
        self.sides: dict[str, Any] = {"positives": positives, "negatives": negatives}
        self.classes = int(self.labels.max()) + 1 if len(self.labels) else 0

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, by the class of what they show."""
        y = at(self.labels, shown)
        relation = constructors.labels(y)
        if self.groups is not None:
            relation = constructors.grouped(relation, at(self.groups, shown), **self.sides)
        return Pairs(z, relation, y=y)
