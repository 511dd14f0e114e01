"""Kin by how near in time windows of recordings lie."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin import KINS, constructors, recordings
from kinshot.kin.kin import Kin, Known, Pairs, at
from kinshot.samples.batch import Batch, Shown


@KINS.register("neighborhood")
class NeighborhoodKin(Kin):
    """Windows of one recording are kin by a normal weight of their lag; beyond reach they are told apart; other recordings are neither.

    The views of a window are kin with weight 1.

    Paper: Tonekaboni, Eytan, Goldenberg 2021, arXiv 2106.00750; departures as in `kinshot.kin.neighborhood`

    Args:
        spread: standard deviation of the neighborhood, in the units of `start`: seconds, for the sources of kinshot.
        reach: up to how many spreads windows are kin.
        others: whether windows of other recordings are told apart, too.
        start: attribute of the data that says when a window begins, NaN unknown.
        recording: attribute that says in which recording, -1 unknown.
    """

    def __init__(
        self,
        known: Known,
        *,
        spread: float,
        reach: float = 3.0,
        others: bool = False,
        start: str = "start",
        recording: str = "recording",
    ) -> None:
        if not (spread > 0 and reach > 0):
            raise ConfigError(f"kin neighborhood: expected spread and reach above 0, got {spread} and {reach}")
        self.start = torch.from_numpy(np.asarray(known.attribute(start, "neighborhood"), dtype=np.float64))
        self.recording = known.classes(recording, "neighborhood")
        self.spread, self.reach, self.others = spread, reach, others

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, by the windows that they show."""
        copies = len(shown.views)
        start, recording = (at(values, shown)[: len(z) // copies] for values in (self.start, self.recording))
        near = recordings.neighborhood(start, recording, self.spread, reach=self.reach, others=self.others)
        return Pairs(z, constructors.across_views(near, copies))
