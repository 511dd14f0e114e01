"""What a view hides of one sensor: channels, and spans of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from kinshot.datasets.views.series.hiding import dropped_channels, hide, masked_spans


@dataclass(frozen=True)
class Hidden:
    """How much is hidden of every sensor; see `Sensor`."""

    channel_dropout: float
    time_mask: float
    time_share: tuple[float, float]
    time_spans: int

    @property
    def timed(self) -> bool:
        """Whether it matters when a window ends."""
        return self.time_mask > 0

    def draws(self, channels: int) -> dict[str, int]:
        """Numbers that a sensor of so many channels needs."""
        return {"channel_dropout": channels, "time_mask": 3 + self.time_spans}

    def applied(self, x: Tensor, end: Tensor, draws: Callable[[str], Tensor]) -> Tensor:
        """Windows (B, C, T), or of frames, with what is hidden not measured, some of every one left; channels of frames are not hidden.

        `end` (B,) is the share of a window that is no padding.
        """
        if self.channel_dropout > 0 and x.ndim == 3:
            x = hide(x, dropped_channels(x, draws("channel_dropout"), self.channel_dropout))
        if self.time_mask > 0:
            u = draws("time_mask")
            spans = masked_spans(x.shape[2], end, u[:, 1:], self.time_share)
            x = hide(x, spans & (u[:, :1, None] < self.time_mask))
        return x
