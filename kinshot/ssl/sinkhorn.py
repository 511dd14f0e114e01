"""Sharing out: columns that all get as much."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(logits: Tensor, rounds: int) -> Tensor:
    """Shares (B, K), each row summing to 1, of exp(logits) whose columns and rows are brought to equal sums in turn.

    Paper: Cuturi 2013, arXiv 1306.0895; a fixed number of rounds as in SwAV, arXiv 2006.09882. By logarithms, so that nothing overflows.
    """
    log = logits.float()
    for _ in range(rounds):
        log = log - log.logsumexp(0, keepdim=True)  # every column gets as much
        log = log - log.logsumexp(1, keepdim=True)  # every row gives 1
    return log.exp()
