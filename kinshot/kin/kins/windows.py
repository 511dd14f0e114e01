"""Kin by when windows of recordings begin and end."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin import KINS, constructors, recordings
from kinshot.kin.kin import Kin, Known, Pairs, at
from kinshot.samples.batch import Batch, Shown


@KINS.register("windows")
class WindowsKin(Kin):
    """The views of a window are kin, windows of its recording that overlap it are neither, all others are told apart.

    Two windows of one instant are kin as well. Other views of a window whose recording or start is unknown are its only kin, and it is
    told apart from none.

    Paper: none

    Args:
        length: of a window, in the units of `start`: seconds, for the sources of kinshot.
        start: attribute of the data that says when a window begins, NaN unknown.
        recording: attribute that says in which recording, -1 unknown.
    """

    def __init__(self, known: Known, *, length: float, start: str = "start", recording: str = "recording") -> None:
        if not length > 0:
            raise ConfigError(f"kin windows: length: expected a length above 0, got {length}: say how long a window is")
        self.start = torch.from_numpy(np.asarray(known.attribute(start, "windows"), dtype=np.float64))
        self.recording, self.length = known.classes(recording, "windows"), length

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, by the windows that they show."""
        copies = len(shown.views)
        start, recording = (at(values, shown)[: len(z) // copies] for values in (self.start, self.recording))
        return Pairs(z, constructors.across_views(recordings.windows(recording, start, self.length), copies))
