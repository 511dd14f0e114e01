"""Hidden spans whose lengths are geometric, as are those of what stays between them."""

from __future__ import annotations

import torch
from torch import Tensor


def least_mean(ratio: float) -> float:
    """The smallest mean length of hidden spans at which `geometric_spans` hides a `ratio` of all steps."""
    return 1 / (1 - ratio)


def geometric_spans(u: Tensor, start: Tensor, ratio: float, mean: float) -> Tensor:
    """Which steps are hidden: bool, of the shape of the draws `u` (..., T), along whose last axis time goes.

    Hidden spans have geometric lengths of a mean of `mean` steps, visible ones of mean * (1 - ratio) / ratio, so that a `ratio` of all
    steps is hidden: a Markov chain of two states in equilibrium. Each step keeps the state of the one before, unless its draw says that it
    is hidden (below the chance that a hidden span begins) or visible (above that of none ending), whatever was before: no step waits for
    another.

    Paper: Zerveas et al., "A Transformer-based Framework for Multivariate Time Series Representation Learning", 2020, arXiv:2010.02803

    Args:
        u: draws.
        start: draws (..., 1) for the state before the first step.
        ratio: share of the steps that is hidden, above 0 and below 1.
        mean: mean length of a hidden span in steps, at least 1 / (1 - ratio).
    """
    ends = 1 / mean
    begins = ends * ratio / (1 - ratio)
    said = torch.cat([torch.ones_like(start, dtype=torch.bool), (u < begins) | (u >= 1 - ends)], -1)
    hidden = torch.cat([start < ratio, u < begins], -1)
    places = torch.arange(said.shape[-1], device=u.device).expand(said.shape)
    latest = places.masked_fill(~said, 0).cummax(dim=-1).values
    return hidden.gather(-1, latest)[..., 1:]
