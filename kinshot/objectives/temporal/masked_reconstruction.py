"""Masked reconstruction: what was hidden of a signal is rebuilt, and nothing is asked of what was visible."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import at_least_float32, full_precision


def masked_reconstruction(x: Tensor, rebuilt: Tensor, hidden: Tensor) -> Tensor:
    """Mean of (rebuilt - x)^2 over the entries that were hidden and measured; 0 where there is none.

    Paper: Zerveas, Jayaraman, Patel, Bhamidipaty, Eickhoff 2020, arXiv 2010.02803. A whole modality may be hidden, too.

    Args:
        x: the signal (B, C, T), standardised, NaN where nothing was measured; no gradient flows into it.
        rebuilt: what the network says (B, C, T).
        hidden: bool, of the same shape, or (B, 1, T) where steps of all channels were hidden.

    Raises:
        ConfigError: shapes that do not fit together.
    """
    if x.dim() != 3 or rebuilt.shape != x.shape or hidden.dtype != torch.bool or hidden.shape not in (x.shape, (len(x), 1, x.shape[2])):
        got = f"{tuple(x.shape)}, {tuple(rebuilt.shape)} and {hidden.dtype} {tuple(hidden.shape)}"
        raise ConfigError(f"masked_reconstruction: expected signals (B, C, T) and bool of that shape or (B, 1, T), got {got}")
    with full_precision(rebuilt):
        target, said = at_least_float32(x.detach()), at_least_float32(rebuilt)
        asked = hidden & ~target.isnan()
        error = torch.where(asked, said, 0) - torch.where(asked, target, 0)
        return error.square().sum() / asked.sum().clamp(min=1)
