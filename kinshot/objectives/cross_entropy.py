"""Cross-entropy with smoothing: the baseline that every relational objective is to be measured against."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import at_least_float32, check_choice, full_precision, reduce


@OBJECTIVES.register("cross_entropy", takes="classes")
def cross_entropy(
    logits: Tensor,
    y: Tensor,
    *,
    smoothing: float = 0.0,
    spread: Literal["others", "all"] = "others",
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
) -> Tensor:
    """Cross-entropy of the softmax of logits with a class's target, which may be smoothed; two conventions share out what it loses.

    Paper: Boudiaf et al. 2020, arXiv 2003.08983 (`others`); Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2015, arXiv 1512.00567 (`all`).

    With `spread=others` the class keeps 1 - e and each other class gets e / (K - 1); the value is the KL divergence, without the
    target's own entropy, so that 0 is perfect. With `spread=all` every class gets e / K, the class itself among them, and the entropy
    stays in the value: PyTorch's `label_smoothing`. Gradients of the first with e are those of the second with e K / (K - 1).

    Args:
        logits: (N, K).
        y: int64 (N,), -1 = unknown: costs 0.
        smoothing: e, from 0 to below 1.
        spread: what shares out e: the other classes, or all of them.
        reduction: "mean" over all rows, "valid" over the known ones, "sum", "none": (N,), or "each", see `common.reduce`.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> logits, y = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, -1])  # the class of the second is not known
    >>> round(kinshot.objectives.cross_entropy(logits, y).item(), 3)
    0.063
    """
    if logits.dim() != 2 or y.shape != logits.shape[:1]:
        raise ConfigError(f"cross_entropy: expected (N, K) and a label for each row, got {tuple(logits.shape)} and {tuple(y.shape)}")
    check_choice("spread", spread, ("others", "all"))
    if not 0 <= smoothing < 1:
        raise ConfigError(f"smoothing: expected a number from 0 to below 1, got {smoothing}")
    classes = logits.shape[1]
    if smoothing and classes < 2:
        raise ConfigError(f"smoothing: expected at least 2 classes to share it, got {classes}")
    with full_precision(logits):
        wide = at_least_float32(logits)
        if spread == "others":
            return reduce(_spread_to_others(wide, y, smoothing), y >= 0, reduction)
        if reduction in ("mean", "valid"):
            return _mean_spread_to_all(wide, y, smoothing, over_known=reduction == "valid")
        losses = F.cross_entropy(wide, y.clamp(min=0), reduction="none", label_smoothing=smoothing)
        return reduce(losses, y >= 0, reduction)


def _mean_spread_to_all(logits: Tensor, y: Tensor, smoothing: float, *, over_known: bool) -> Tensor:
    """PyTorch's own mean, to the last bit where every label is known."""
    known = (y >= 0).sum()
    # of no row at all PyTorch's mean is NaN: any target does where the share is 0
    mean = F.cross_entropy(logits, torch.where(known > 0, y, 0), ignore_index=-1, label_smoothing=smoothing)
    return mean * ((known > 0).to(mean.dtype) if over_known else known.to(mean.dtype) / max(1, len(y)))


def _spread_to_others(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    logs = F.log_softmax(logits, dim=1)
    own = logs.gather(1, y.clamp(min=0).unsqueeze(1)).squeeze(1)
    losses = -(1 - smoothing) * own
    if smoothing:
        each = smoothing / (logits.shape[1] - 1)
        entropy = (1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(each)
        losses = losses - each * (logs.sum(dim=1) - own) + entropy
    return losses
