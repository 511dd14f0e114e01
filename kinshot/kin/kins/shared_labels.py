"""Kin by several labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs, at
from kinshot.samples.batch import Batch, Shown


@KINS.register("shared_labels", labelled=True)
class SharedLabelsKin(Kin):
    """Samples that share enough labels are kin; those that cannot, whatever is missing, are told apart; in between is neither.

    Paper: none; kinship of multi-label data as in McDermott et al. 2023, arXiv 2103.10334

    Args:
        attribute: of the data, several labels a sample: 1 has it, 0 has it not, -1 or NaN missing.
        min_shared: labels that kin share.
        graded: weighs kin by the share of labels that both have among those that either has, and others by one minus it.
    """

    def __init__(self, known: Known, *, attribute: str, min_shared: int = 1, graded: bool = False) -> None:
        marks = known.attribute(attribute, "shared_labels")
        if marks.ndim != 2:
            raise ConfigError(f"kin shared_labels: expected several labels a sample, (N, L), as attribute {attribute!r}, got {marks.shape}")
        self.marks = torch.from_numpy(np.asarray(marks, dtype=np.float32))
        self.min_shared, self.graded = min_shared, graded

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, by the labels of what they show."""
        return Pairs(z, constructors.multilabels(at(self.marks, shown), self.min_shared, graded=self.graded))
