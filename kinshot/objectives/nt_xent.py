"""NT-Xent: the two views of each image against all other views of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.objectives.info_nce import full_precision, unit


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy, mean over the 2B views.

    Each view's positive is the other view of its image, its negatives are the 2B - 2 views of the other images.

    Paper: Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709.

    Args:
        first: (B, D), normalised here.
        second: (B, D), row b shows the same image as `first[b]`.
        temperature: divides every cosine; above 0.

    Raises:
        ConfigError: the temperature is not above 0, or the two shapes differ.
    """
    if not temperature > 0:
        raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
    if first.shape != second.shape:
        raise ConfigError(f"nt_xent: both views need one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    with full_precision(first):
        z = torch.cat([unit(first), unit(second)])
        count = len(z)
        logits = z @ z.T / temperature
        itself = torch.eye(count, dtype=torch.bool, device=z.device)
        partner = torch.arange(count, device=z.device).roll(count // 2)
        return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)
