"""Samples as features of themselves: the reference that any encoder must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.samples.tokens import BYTE_VOCABULARY, PADDING

_BYTE_COLUMNS, _TOKEN_COLUMNS = BYTE_VOCABULARY, 4096


def raw_pixels(images: Tensor) -> Tensor:
    """The reference feature that any encoder must beat: uint8 (B, C, H, W) -> float32 (B, C*H*W) in [0, 1]."""
    return images.flatten(1).float().div(255)


def raw_features(batch: Tensor) -> Tensor:
    """The reference feature of a loaded batch of any kind: float32 (B, D), with one D for all batches of a source.

    Images (B, C, H, W) give their pixels in [0, 1] and features (B, F) are what they are. Tokens (B, L) give the number of times
    that each id occurs, padding left out: 256 columns for tokens stored in bytes, and else 4096, which ids beyond share.
    """
    if batch.ndim == 4:
        return raw_pixels(batch)
    if batch.is_floating_point():
        return batch.float()
    columns = _BYTE_COLUMNS if batch.dtype == torch.uint8 else _TOKEN_COLUMNS
    counts = torch.zeros(len(batch), columns, device=batch.device)
    return counts.scatter_add_(1, batch.long() % columns, (batch != PADDING).float())
