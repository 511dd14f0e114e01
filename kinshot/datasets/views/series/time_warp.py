"""Time that runs faster here and slower there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from kinshot.datasets.views.series.normal import normal


def warp_time(time: Tensor, u: Tensor, deviation: float) -> Tensor:
    """A smooth increasing map of [0, 1] onto itself for each sample: time (B, T) to time (B, T).

    Speeds at evenly spaced knots are log-normal and lie on lines in between: their integral, the map, is smooth and never turns back.

    Paper: Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using Convolutional Neural Networks",
    2017, arXiv:1706.00527; there a cubic spline through normal speeds, which may turn back.

    Args:
        time: of the view.
        u: draws (B, K), one for each knot, the ends among them.
        deviation: standard deviation of the log of the speed at a knot.
    """
    pieces = u.shape[1] - 1
    speed = torch.exp(deviation * normal(u))
    passed = pad(((speed[:, 1:] + speed[:, :-1]) / 2).cumsum(1), (1, 0))
    piece = (time * pieces).floor().clamp(0, pieces - 1)
    within, knot = time * pieces - piece, piece.long()
    first, second = speed.gather(1, knot), speed.gather(1, knot + 1)
    return (passed.gather(1, knot) + within * (first + within * (second - first) / 2)) / passed[:, -1:]
