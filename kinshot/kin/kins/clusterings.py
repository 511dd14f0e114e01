"""Kin by several clusterings."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs, at
from kinshot.samples.batch import Batch, Shown


@KINS.register("clusterings", labelled=True)
class ClusteringsKin(Kin):
    """The views of a sample are kin; others are told apart by the number of clusterings in which they differ.

    Paper: Yu, Ge, Li, Zhou 2023, arXiv 2212.13847 (MEOW); with `info_nce` and `denominator: negatives` it is that paper's loss.

    Args:
        attributes: of the data, each one clustering of all samples; empty for the labels alone.
    """

    def __init__(self, known: Known, *, attributes: tuple[str, ...] = ()) -> None:
        self.assignments = torch.stack([known.classes(name, "clusterings") for name in attributes or ("",)], dim=1)

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows; the paper compares each view with the other alone."""
        copies = len(shown.views)
        own = at(self.assignments, shown)[: len(z) // copies]
        return Pairs(z, constructors.across_views(constructors.clusterings(own.T), copies))
