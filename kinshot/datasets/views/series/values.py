"""Everything that alters what was measured, for one sensor: factors, noise and frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.datasets.views.series.amplitude import magnitude_warped, negated, scaled
from kinshot.datasets.views.series.normal import normal
from kinshot.datasets.views.series.spectrum import frequency_masked, phase_shifted


@dataclass(frozen=True)
class Values:
    """Largest changes of values; see `Sensor`."""

    jitter: float
    scaling: float
    negation: float
    magnitude_warp: float
    magnitude_warp_deviation: float
    knots: int
    frequency_mask: float
    frequency_share: float
    phase_shift: float

    def draws(self, channels: int) -> dict[str, int]:
        """Numbers that each change of a sensor of so many channels needs; jitter, which needs many more, is apart."""
        return {
            "scaling": channels,
            "negation": 1,
            "frequency_mask": 3,
            "phase_shift": 2,
            "magnitude_warp": 1 + channels * (self.knots + 2),
        }

    def altered(self, x: Tensor, draws: Callable[[str], Tensor]) -> Tensor:
        """Normalised windows (B, C, T), altered; what is not measured stays so. `draws` gives the numbers for a change, (B, D)."""
        if self.frequency_mask > 0:
            u = draws("frequency_mask")
            x = chosen(u, self.frequency_mask, frequency_masked(x, u[:, 1:], self.frequency_share), x)
        if self.phase_shift > 0:
            u = draws("phase_shift")
            x = chosen(u, self.phase_shift, phase_shifted(x, (2 * u[:, 1] - 1) * math.pi), x)
        if self.magnitude_warp > 0:
            u = draws("magnitude_warp")
            deviation = self.magnitude_warp_deviation * (u[:, 0] < self.magnitude_warp)
            x = magnitude_warped(x, u[:, 1:].unflatten(1, (x.shape[1], -1)), deviation)
        if self.negation > 0:
            x = negated(x, draws("negation"), self.negation)
        if self.scaling > 0:
            x = scaled(x, draws("scaling"), self.scaling)
        return jittered(x, draws("jitter"), self.jitter) if self.jitter > 0 else x


def jittered(x: Tensor, u: Tensor, deviation: float) -> Tensor:
    """Windows (B, C, T) with normal noise on every value, by draws (B, C * T)."""
    return x + deviation * normal(u).view_as(x)


def chosen(u: Tensor, probability: float, altered: Tensor, x: Tensor) -> Tensor:
    """Windows (B, C, T), altered where the first of the draws (B, D) is below the probability."""
    return torch.where(u[:, :1, None] < probability, altered, x)
