"""Kin by the clock."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs, at
from kinshot.samples.batch import Batch, Shown


@KINS.register("time")
class TimeKin(Kin):
    """Samples of one recording within a time lag are kin; those further apart, and other recordings, are told apart.

    Paper: none of its own; time-contrastive kinship as in Franceschi, Dieuleveut, Jaggi 2019, arXiv 1901.10738

    Args:
        time: attribute of the data that says when a sample was taken; NaN unknown.
        recording: attribute that says in which recording, -1 unknown; empty where all are of one.
        max_lag: largest distance in time between kin, in the units of `time`.
        masked_lag: up to this distance samples that are not kin are neither; None tells them apart.
    """

    def __init__(self, known: Known, *, time: str, max_lag: float, recording: str = "", masked_lag: float | None = None) -> None:
        if not max_lag >= 0 or (masked_lag is not None and masked_lag < max_lag):
            raise ConfigError(f"kin time: expected 0 <= max_lag <= masked_lag, got max_lag={max_lag} and masked_lag={masked_lag}")
        self.time = torch.from_numpy(np.asarray(known.attribute(time, "time"), dtype=np.float64))
        self.recording = known.classes(recording, "time") if recording else torch.zeros(len(self.time), dtype=torch.int64)
        self.max_lag, self.masked_lag = max_lag, masked_lag

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, by the time of what they show."""
        times, recordings = at(self.time, shown), at(self.recording, shown)
        return Pairs(z, constructors.time(times, recordings, self.max_lag, masked_lag=self.masked_lag))
