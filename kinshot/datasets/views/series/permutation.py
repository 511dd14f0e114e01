"""A window cut into segments that change places."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def segment_draws(most: int) -> int:
    """Draws that `segment_order` takes for at most so many segments."""
    return 2 * most


def segment_order(steps: int, end: Tensor, u: Tensor, least: int = 1, grid: int | None = None) -> Tensor:
    """Which step stands at each place when segments change places: int64 (B, T), one order for all channels.

    Every step stands somewhere once. Cuts are drawn as shares of the window and fall between the steps of a grid, so that sensors of all
    rates, cut on the grid of the slowest, are cut at the same instants; what lies behind the end of the window stays there.

    Args:
        steps: of a window, T.
        end: share of each window that is measured at all, (B,).
        u: draws (B, 2 * most) for a number of segments, uniform from `least` to `most`, their cuts and their order.
        least: the smallest number of segments.
        grid: steps of the grid in a window; None is T.
    """
    most = u.shape[1] // 2
    count = least + (u[:, :1] * (most - least + 1)).floor()
    extent = (end * steps)[:, None]
    last = extent.sub(1e-3).ceil()
    cuts = u[:, 1:most].masked_fill(torch.arange(1, most, device=u.device) >= count, 1.0).sort(dim=1).values
    grid = grid or steps
    cuts = (cuts * end[:, None] * grid).round() * (steps / grid)
    edges = torch.cat([torch.zeros_like(last), torch.minimum(cuts.round(), last), last], 1)
    order = u[:, most:].argsort(dim=1)
    lengths = (edges[:, 1:] - edges[:, :-1]).gather(1, order)
    ends = lengths.cumsum(1)
    shift = edges[:, :-1].gather(1, order) - (ends - lengths)  # from a place in the new order to the step that stands there
    step = torch.arange(steps, device=u.device, dtype=ends.dtype).expand(len(u), steps).contiguous()
    segment = torch.searchsorted(ends, step, right=True)
    # behind the end there is one more segment, which stays
    return (step + pad(shift, (0, 1)).gather(1, segment)).long()
