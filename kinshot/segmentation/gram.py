"""How differently two images look: the difference of their Gram matrices, and what shots weigh by it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinshot.objectives.common import full_precision


def gram(maps: Tensor) -> Tensor:
    """Cosine of each channel with each other one over an image's cells: maps (..., C, h, w) give (..., C, C)."""
    with full_precision(maps):
        channels = normalize(maps.flatten(-2).to(torch.promote_types(maps.dtype, torch.float32)), dim=-1)
        return channels @ channels.mT


def gram_difference(support: Tensor, query: Tensor, known: Tensor | None = None) -> Tensor:
    """|G_q - G_s| / |1| in the Frobenius norm, from 0 for equal images: (E, Q, W, K).

    Paper: Lang, Cheng, Tu, Han, 2022, arXiv 2203.07615 (BAM)

    Args:
        support: maps (E, W, K, C, h, w).
        query: maps (E, Q, C, h, w).
        known: share of each support cell that its mask says something of, (E, W, K, h, w), which its features are multiplied with; None
            for all of it.
    """
    if known is not None:
        support = support * known.unsqueeze(3)
    ours, theirs = gram(support).flatten(1, 2).flatten(-2), gram(query).flatten(-2)
    distances = torch.linalg.vector_norm(theirs.unsqueeze(2) - ours.unsqueeze(1), dim=-1)
    return (distances / support.shape[3]).unflatten(2, support.shape[1:3])


def shot_shares(difference: Tensor, temperature: float) -> Tensor:
    """softmax over a way's shots of -difference / temperature, (E, Q, W, K): the shot that looks most like the query counts most.

    Departures: BAM learns a small network that turns sorted differences into weights; this one learns nothing.
    """
    return (-difference / temperature).softmax(-1)
