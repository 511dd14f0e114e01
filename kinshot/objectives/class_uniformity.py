"""Uniformity of classes as a loss: the means of the batch's classes fill the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.sphere import log_mean_potential
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, full_precision, unit


@OBJECTIVES.register("class_uniformity", takes="classes")
def class_uniformity(z: Tensor, y: Tensor, *, t: float = 2.0) -> Tensor:
    """Uniformity of the class means u(mean of u(z_i) over the class), every class of the batch counted once. One class gives 0.

    Paper: Wang, Isola 2020, arXiv 2005.10242.
    Departure: the class level is ours.

    Args:
        z: (N, D), scaled to unit length here.
        y: int64 (N,), -1 = unknown, in no class.
        t: sharpness, above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    check_above("t", t)
    if z.dim() != 2 or len(z) == 0 or y.shape != z.shape[:1]:
        raise ConfigError(f"class_uniformity: expected (N, D) and a label for each row, got {tuple(z.shape)} and {tuple(y.shape)}")
    with full_precision(z):
        rows = unit(z)
        if len(z) < 2:
            return (rows * 0).sum()
        same = y.unsqueeze(1) == y
        # each row carries its class's mean and the first row of a class stands for it: no count of classes is read off a GPU
        first = (y >= 0) & ~same.tril(-1).any(1)
        means = unit(same.to(rows.dtype) @ rows)
        i, j = torch.triu_indices(len(z), len(z), 1, device=z.device)
        return log_mean_potential(torch.pdist(means), t, first[i] & first[j])
