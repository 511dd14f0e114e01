"""Everything that alters time, in one: when each step of a view was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.datasets.views.series.permutation import segment_draws, segment_order
from kinshot.datasets.views.series.stretch import change_rate, crop_time
from kinshot.datasets.views.series.time_warp import warp_time

_SNAP = 1e-3  # steps; rounding of a time that is a step's own is undone, so that what is not altered stays exact


@dataclass(frozen=True)
class Clock:
    """Largest changes of time; see `Sensor`."""

    flip: float
    permutation: float
    segments: int
    time_warp: float
    time_warp_deviation: float
    knots: int
    crop: float
    rate: tuple[float, float]

    @property
    def running(self) -> bool:
        """Whether any of them is on."""
        return max(self.flip, self.permutation, self.time_warp) > 0 or self.crop < 1 or self.rate != (1.0, 1.0)

    @property
    def draws(self) -> dict[str, int]:
        """Numbers that each change needs."""
        return {"flip": 1, "permutation": 1 + segment_draws(self.segments), "crop": 2, "rate": 2, "time_warp": 1 + self.knots + 2}

    def positions(self, steps: int, end: Tensor, grid: int, draws: Callable[[str], Tensor]) -> Tensor:
        """Where in a window of so many steps each step of a view is read, (B, T), in steps; what lies behind `end` stays.

        The changes are maps of time as a share of what is measured, the same for sensors of all rates; each reads the times of the one
        before: permutation, flip, warp, rate, crop. Values are so read once, whatever happens to time.

        Args:
            steps: of a window, T.
            end: share of each window that is measured at all, (B,).
            grid: between whose steps, of so many in a window, segments are cut.
            draws: gives the numbers for a change by its name, (B, D).
        """
        step = torch.arange(steps, device=end.device, dtype=torch.float32)
        extent = (end * steps)[:, None]
        time = (step + 0.5) / extent
        if self.flip > 0:
            time = torch.where(draws("flip") < self.flip, 1 - time, time)
        if self.time_warp > 0:
            u = draws("time_warp")
            time = torch.where(u[:, :1] < self.time_warp, warp_time(time, u[:, 1:], self.time_warp_deviation), time)
        if self.rate != (1.0, 1.0):
            time = change_rate(time, draws("rate"), self.rate)
        if self.crop < 1:
            time = crop_time(time, draws("crop"), self.crop)
        places = time * extent - 0.5
        places = torch.where((places - places.round()).abs() < _SNAP, places.round(), places)
        places = torch.where(step < (extent - _SNAP).ceil(), places, step)
        if self.permutation > 0:
            u = draws("permutation")
            order = segment_order(steps, end, u[:, 1:], least=2, grid=grid)
            places = torch.where(u[:, :1] < self.permutation, places.gather(1, order), places)
        return places
