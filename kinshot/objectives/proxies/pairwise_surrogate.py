"""What cross-entropy says of pairs: the two terms of a loss over pairs that it bounds; a diagnostic, trained with nothing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import check_above, full_precision
from kinshot.objectives.proxies.rows import in_one_type


class PairwiseSurrogate(NamedTuple):
    """Two scalars; their sum is the surrogate."""

    tightness: Tensor
    contrast: Tensor


@torch.no_grad()
def pairwise_surrogate(z: Tensor, y: Tensor, logits: Tensor, *, decay: float = 1.0) -> PairwiseSurrogate:
    """The pairwise cross-entropy of embeddings, in two terms, without gradient.

    Paper: Boudiaf et al. 2020, arXiv 2003.08983.

    With a = `decay`, p = softmax(logits), c_k = (1/n) sum_i p_ik z_i:

        tightness = -1 / (2 a n^2) sum over i, j of one class <z_i, z_j>
        contrast = (1/n) sum_i log sum_k exp(<z_i, c_k> / a) - 1/(2a) sum_k |c_k|^2

    Tightness is the least value that -(1/n) sum_i <w_{y_i}, z_i> + a/2 sum_k |w_k|^2 has over all rows w. Contrast is
    (1/n) sum_i log sum_k exp <w_k, z_i> - a/2 sum_k |w_k|^2 at w_k = c_k / a, which are its stationary rows where p is their own
    softmax. Both first summands together are the cross-entropy of a classifier without bias, for which this stands.

    Args:
        z: (B, D), as the classifier sees them.
        y: int64 (B,); rows of -1, unknown, are left out, and of none at all both terms are 0.
        logits: of the classifier, (B, C).
        decay: above 0; what is added to cross-entropy and taken off again, times half the rows' squared lengths.

    Raises:
        ConfigError: shapes that do not fit together, a class without logits, or a decay out of range.
    """
    check_above("decay", decay)
    if z.dim() != 2 or logits.dim() != 2 or not len(z) == len(logits) == len(y) or y.dim() != 1:
        got = f"{tuple(z.shape)}, {tuple(logits.shape)} and {tuple(y.shape)}"
        raise ConfigError(f"pairwise_surrogate: expected embeddings (B, D), logits (B, C) and classes (B,), got {got}")
    if len(y) and int(y.max()) >= logits.shape[1]:
        raise ConfigError(f"pairwise_surrogate: expected classes below the logits' {logits.shape[1]}, got {int(y.max())}")
    with full_precision(z):
        rows, logits = in_one_type(z[y >= 0], logits[y >= 0])
        n = max(1, len(rows))
        sums = rows.new_zeros(logits.shape[1], rows.shape[1]).index_add_(0, y[y >= 0], rows)
        centers = logits.softmax(dim=1).T @ rows / n
        tightness = -sums.square().sum() / (2 * decay * n**2)
        contrast = (rows @ centers.T / decay).logsumexp(dim=1).sum() / n - centers.square().sum() / (2 * decay)
        return PairwiseSurrogate(tightness, contrast)
