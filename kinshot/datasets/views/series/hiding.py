"""What a view hides becomes what was not measured: channels, spans of time, whole sensors, and never all that there is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinshot.datasets.views.series.reading import beside


def keep_some(x: Tensor, found: Tensor) -> Tensor:
    """What windows x (B, C, T, ...) have become, or x itself for those of which nothing would be left."""
    return torch.where(beside(found.isnan().flatten(1).all(dim=1)[:, None, None], x), x, found)


def hide(x: Tensor, hidden: Tensor) -> Tensor:
    """Windows (B, C, T, ...) with what is `hidden`, bool (B, C or 1, T or 1), not measured; whole where nothing would be left."""
    return keep_some(x, x.masked_fill(beside(hidden, x), torch.nan))


def dropped_channels(x: Tensor, u: Tensor, probability: float) -> Tensor:
    """Which channels of windows (B, C, T) are hidden, by draws (B, C): bool (B, C, 1); one that is measured stays in every window."""
    return _all_but_one(~x.isnan().all(dim=2), u, probability)[:, :, None]


def presence(samples: Mapping[str, Tensor]) -> Tensor:
    """Which samples have which of the modalities (B, ...), by name: bool (B, M)."""
    return torch.stack([~x.flatten(1).isnan().all(dim=1) for x in samples.values()], dim=1)


def absent(samples: Mapping[str, Tensor], gone: Tensor) -> dict[str, Tensor]:
    """Modalities (B, ...), by name, all of it not measured in samples that they are `gone` from, bool (B, M)."""
    return {
        name: x.masked_fill(one.view(-1, *[1] * (x.ndim - 1)), torch.nan) for (name, x), one in zip(samples.items(), gone.T, strict=True)
    }


def dropped_modalities(present: Tensor, u: Tensor, probability: float) -> Tensor:
    """Which of the modalities that a sample has, (B, M), are hidden, each by itself, by draws (B, M): bool (B, M); one stays."""
    return _all_but_one(present, u, probability)


def hidden_modality(present: Tensor, u: Tensor, probability: float) -> Tensor:
    """Which one of the modalities that a sample has, (B, M), is hidden, if any, by draws (B, 1 + M): bool (B, M); never the only one."""
    drawn = u[:, 1:].masked_fill(~present, -1.0)
    first = torch.zeros_like(present).scatter_(1, drawn.argmax(dim=1, keepdim=True), True)
    return first & ((u[:, :1] < probability) & (present.sum(dim=1, keepdim=True) > 1))


def _all_but_one(there: Tensor, u: Tensor, probability: float) -> Tensor:
    """What is hidden of what is there; the one with the largest draw stays, so that hiding is as likely as asked wherever it may be."""
    drawn = u.masked_fill(~there, -1.0)
    first = torch.zeros_like(there).scatter_(1, drawn.argmax(dim=1, keepdim=True), True)
    return there & (u < probability) & ~first


def masked_spans(steps: int, end: Tensor, u: Tensor, share: tuple[float, float]) -> Tensor:
    """Which steps of windows are hidden in one span of time or several, of one length and in places of their own: bool (B, 1, T).

    Args:
        steps: of a window, T.
        end: share of each window that is measured at all, (B,).
        u: draws (B, 2 + S) for the share that all spans are, for their number from 1 to S, and for their places, where they may overlap.
        share: smallest and largest share of the window that all spans are.
    """
    most = u.shape[1] - 2
    count = 1 + (u[:, 1:2] * most).floor()
    length = (share[0] + (share[1] - share[0]) * u[:, :1]) / count
    start = u[:, 2:] * (1 - length)
    time = (torch.arange(steps, device=u.device) + 0.5) / (end * steps)[:, None]
    within = (time[:, :, None] >= start[:, None]) & (time[:, :, None] < (start + length)[:, None])
    return (within & (torch.arange(most, device=u.device) < count)[:, None]).any(dim=2)[:, None]
