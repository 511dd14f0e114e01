"""Votes of shots that each segmented alone, pixel by pixel, by two rules."""

from __future__ import annotations

import torch
from torch import Tensor

_THRESHOLD = 0.5


def count_votes(labels: Tensor, labels_of: int, voters: Tensor) -> Tensor:
    """How many shots gave each pixel each label: (..., labels_of, H, W), float32.

    Args:
        labels: what each shot says, int64 (..., K, H, W).
        labels_of: how many labels there are, background among them.
        voters: which shots vote, bool (..., K).
    """
    heard = labels.masked_fill(~voters[..., None, None], -1)
    return torch.stack([(heard == label).float().sum(-3) for label in range(labels_of)], dim=-3)


def hsnet_vote(votes: Tensor, shots: int) -> Tensor:
    """Scores whose largest label is HSNet's: a way from half of the most votes that it has anywhere in the image; (E, Q, 1 + W, H, W).

    A way's votes are divided by max(their maximum over the image, 1), so that the threshold moves with the image. The background scores
    just below one half, so that a way that reaches the threshold has it.

    Paper: Min, Kang, Cho, 2021, arXiv 2104.01538

    Args:
        votes: (E, Q, 1 + W, H, W).
        shots: K, which says how close to one half two shares can be.
    """
    most = votes[:, :, 1:].amax((-2, -1), keepdim=True).clamp_min(1)
    scores = votes.clone()
    scores[:, :, 1:] = votes[:, :, 1:] / most
    # the largest share below one half is (m - 1) / 2m of the odd m <= K votes, at least 1 / 2K away from it
    scores[:, :, 0] = _THRESHOLD - 1 / (4 * shots)
    return scores


def majority_vote(votes: Tensor, voters: Tensor) -> Tensor:
    """Shares of all votes, (E, Q, 1 + W, H, W): a pixel belongs to the label with most of them, and to the background in doubt.

    With one way it is therefore foreground where more than half of the shots say so. Where no shot votes, all is background.
    """
    shares = votes / voters.sum(1).clamp_min(1).view(-1, 1, 1, 1, 1)
    shares[:, :, 0] += (~voters.any(1)).view(-1, 1, 1, 1)
    return shares
