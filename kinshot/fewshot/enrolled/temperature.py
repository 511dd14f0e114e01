"""How sure an answer is: one temperature for all scores, fitted to images that the head was not taught with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kinshot.core.errors import DataError

LEAST, MOST = 1e-6, 1e9
"""Bounds of 1 / temperature: at the least one all classes are as likely, whatever their scores."""
_STEPS, _PRECISION = 60, 1e-10


def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """The temperature T at which softmax(scores / T) is likeliest, with room for the errors that so few images cannot show.

    The target of the right class is (M + 1) / (M + 2) and the rest is spread over the others: what Laplace's rule of succession says of
    the next image after M that were all right. Without it five images that are told apart would make every answer certain, T = 0. The
    loss is convex in 1 / T; it is brought to its minimum by Newton's method between bounds.

    Paper: Guo, Pleiss, Sun, Weinberger, 2017, arXiv 1706.04599 (temperature scaling); Platt, 1999, Probabilistic outputs for support
    vector machines (the targets)
    Departures: Platt's targets are those of two classes; here one rule for all.

    Args:
        scores: (M, C) of images left out, M >= 1, C >= 2.
        labels: int64 (M,), the right classes.

    Returns:
        T, above 0; 1 / LEAST where the scores say nothing of the classes.

    Raises:
        DataError: no image, or fewer than two classes.
    """
    count, classes = scores.shape
    if not count or classes < 2:
        raise DataError(f"a temperature is fitted to images of at least two classes, got {count} images and {classes} classes")
    s = scores.double()
    s = s - s.amax(1, keepdim=True)
    right = (count + 1) / (count + 2)
    own = s.gather(1, labels[:, None]).squeeze(1)
    aim = float((right * own + (1 - right) * (s.sum(1) - own) / (classes - 1)).mean())

    def slope(sharpness: float) -> tuple[float, float]:
        p = (sharpness * s).softmax(1)
        mean = (p * s).sum(1)
        spread = (p * s.square()).sum(1) - mean.square()
        return float(mean.mean()) - aim, float(spread.mean())

    return 1 / _root(slope)


def _root(slope: Callable[[float], tuple[float, float]]) -> float:
    """Where an increasing slope, given with its own derivative, is 0, between LEAST and MOST."""
    low, high = LEAST, 1.0
    if slope(low)[0] >= 0:
        return low
    while high < MOST and slope(high)[0] < 0:
        low, high = high, high * 8
    x = (low * high) ** 0.5
    for _ in range(_STEPS):
        value, change = slope(x)
        low, high = (x, high) if value < 0 else (low, x)
        step = x - value / change if change > 0 else 0.0
        new = step if low < step < high else (low * high) ** 0.5
        if abs(new - x) <= _PRECISION * x:
            return new
        x = new
    return x


def probabilities(scores: Tensor, temperature: float) -> Tensor:
    """softmax(scores / T), float64 (N, C): how likely each class is if it is one of them."""
    return torch.softmax(scores.double() / temperature, 1)
