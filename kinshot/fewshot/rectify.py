"""Prototype rectification: the queries moved onto the support set, and class rows that take them in.

Paper: Liu, Song, Qin, 2020, arXiv 1911.10713 (BD-CSPN)
"""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.fewshot.transforms import class_means, cosine, one_hot, unit


def shifted(support: Tensor, query: Tensor) -> Tensor:
    """Queries (E, Q, D) moved by mean(support) - mean(query), so that both sets have one mean."""
    return query + (support.mean(1, keepdim=True) - query.mean(1, keepdim=True))


def rectified(support: Tensor, labels: Tensor, query: Tensor, ways: int, *, variant: str, epsilon: float) -> Tensor:
    """Class rows from the support set and pseudo-labelled, shifted queries.

    With p_c the class means, x any support row or shifted query and c(x) its class by cosine:

    * `within`: p'_c = sum of w_x x over the support rows of class c and the queries with c(x) = c, where
      w_x is proportional to exp(epsilon cos(x, p_c)) and the weights of a class sum to 1;
    * `across`: p'_c = mean of s_x x over *all* rows with c(x) = c, support rows too, where s_x = softmax over the
      classes of epsilon cos(x, p), at class c. These rows are shorter than the features they are made of.
      A class that no row chooses keeps p_c.

    Args:
        support: (E, S, D), transformed.
        labels: int64 (E, S).
        query: (E, Q, D), transformed, not shifted yet.
        ways: W.
        variant: `within` or `across`.
        epsilon: factor on the cosine.

    Returns:
        (E, W, D).

    Raises:
        ConfigError: unknown variant.
        DataError: a way without support.
    """
    if variant not in ("within", "across"):
        raise ConfigError(f"unknown rectification {variant!r}: use within or across")
    means = class_means(support, labels, ways)
    shift = support.mean(1, keepdim=True) - query.mean(1, keepdim=True)
    near = torch.cat([cosine(support, means).mT, _shifted_cosine(query, shift, means)], dim=2)  # (E, W, S + Q)
    nearest = near == near.amax(1, keepdim=True)
    chosen = (nearest & (nearest.cumsum(1) == 1)).to(near.dtype)  # the first of equals; argmax and scatter take several times as long
    shots = support.shape[1]
    if variant == "within":
        chosen[..., :shots] = one_hot(labels, ways, near).mT
        # no cosine is above 1: subtracting that keeps the exponential in range for any epsilon
        weight = chosen * (epsilon * (near - 1)).exp()
        total = weight.sum(-1, keepdim=True)
    else:
        weight = chosen * (epsilon * near).softmax(1)
        total = chosen.sum(-1, keepdim=True)
    of_query = weight[..., shots:]
    summed = weight[..., :shots] @ support + of_query @ query + of_query.sum(-1, keepdim=True) * shift
    return torch.where(total > 0, summed / total, means)


def _shifted_cosine(query: Tensor, shift: Tensor, rows: Tensor) -> Tensor:
    """Cosine of query + shift and rows, (E, W, Q), without a shifted copy of the queries, the largest tensor.

    Where a query and the shift nearly cancel, their sum is computed after all: its length would be what rounding left of it.
    """
    directions = unit(rows)
    inner = torch.cat([directions, shift], dim=1) @ query.mT
    length, added = torch.linalg.vector_norm(query, dim=-1).square().unsqueeze(1), shift.square().sum(-1, keepdim=True)
    square = length + 2 * inner[:, -1:] + added
    if bool((square <= 1e-2 * (length + added)).any()):  # also where all is 0
        return cosine(query + shift, rows).mT
    return (inner[:, :-1] + directions @ shift.mT) / square.sqrt()
