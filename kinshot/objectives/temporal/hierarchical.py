"""TS2Vec's hierarchical contrast: steps of two crops are told from other series and from other steps, at every scale of time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.aligned import blanked
from kinshot.objectives.common import ABSENT, check_at_least, full_precision
from kinshot.objectives.temporal.stacked import mean_of_valid, told_apart


def hierarchical(
    first: Tensor,
    second: Tensor,
    relation: Relation | None = None,
    *,
    valid: Tensor | None = None,
    alpha: float = 0.5,
    finest: int = 0,
) -> Tensor:
    """alpha * instance + (1 - alpha) * temporal of `hierarchical_terms`.

    Paper: Yue, Wang, Duan, Yang, Huang, Tong, Xu 2021, arXiv 2106.10466.

    Args:
        first: one crop's representations (B, T, D) on the steps that both crops hold, as they are.
        second: the other crop's (B, T, D), same steps.
        relation: of the series to themselves, (B, B), whose negatives the instance term tells apart; None = all other rows.
        valid: bool (B, T), steps that hold anything; the others play no part. None = all.
        alpha: weight of the instance term, from 0 to 1.
        finest: scales, from the finest, that the temporal term leaves out (`temporal_unit` of the released code).

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: expected a number from 0 to 1, got {alpha}")
    terms = hierarchical_terms(first, second, relation, valid=valid, finest=finest)
    return alpha * terms["instance"] + (1 - alpha) * terms["temporal"]


def hierarchical_terms(
    first: Tensor, second: Tensor, relation: Relation | None = None, *, valid: Tensor | None = None, finest: int = 0
) -> dict[str, Tensor]:
    """Both terms by name, sums over scales divided by the number of scales, by dot products without temperature.

    * `instance`: each step of each series finds itself in the other crop, among that step of the other series in both crops;
    * `temporal`: among the other steps of its own series in both crops; not at the last scale, where one step is left.

    A scale is the one before, max-pooled over pairs of valid steps; where their number is odd the last one is dropped, as in the
    released code. Each is the mean over valid steps that have something to be told apart from; for a single series `instance` is 0.
    Memory grows as B T^2 + T B^2.

    Arguments and errors as of `hierarchical`.
    """
    check_at_least(0, finest=finest)
    if first.dim() != 3 or first.shape != second.shape or first.shape[1] == 0:
        got = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ConfigError(f"hierarchical: expected two crops (B, T, D) of the same steps, got {got}")
    if valid is not None and (valid.dtype != torch.bool or valid.shape != first.shape[:2]):
        raise ConfigError(f"valid: expected bool {tuple(first.shape[:2])}, got {valid.dtype} {tuple(valid.shape)}")
    with full_precision(first):
        one, two = blanked(first, valid), blanked(second, valid)
        there = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device) if valid is None else valid
        others = told_apart("hierarchical", relation, len(first), first.device)
        sums, scale = {"instance": (one * 0).sum(), "temporal": (one * 0).sum()}, 0
        while True:
            steps = one.shape[1]
            sums["instance"] = sums["instance"] + _contrast(one.transpose(0, 1), two.transpose(0, 1), others, there.T)
            if steps > 1 and scale >= finest:
                apart = ~torch.eye(steps, dtype=torch.bool, device=one.device)
                sums["temporal"] = sums["temporal"] + _contrast(one, two, apart, there)
            scale += 1
            if steps == 1:
                return {name: total / scale for name, total in sums.items()}
            (one, coarser), (two, _) = _halved(one, there), _halved(two, there)
            there = coarser


def _contrast(one: Tensor, two: Tensor, others: Tensor, there: Tensor) -> Tensor:
    """Rows of both sides (S, N, D), of which row i is kin to row i of the other side and told apart as `others` (N, N) says.

    It is `stacked_info_nce` where every row has one kin: what is left out enters the product as its bias, and nothing else of its size is
    made but what the logarithm of the sum takes.
    """
    rows, both = torch.cat([one, two], 1), torch.cat([there, there], 1)
    count = one.shape[1]
    weights = others.to(rows.dtype).repeat(2, 2)
    kin = torch.eye(2 * count, dtype=torch.bool, device=rows.device).roll(count, 1)
    seen = torch.where((weights > 0) | kin, torch.where(kin | (weights <= 0), 1, weights).log(), ABSENT)
    bias = seen + torch.where(both, 0, ABSENT).to(rows.dtype).unsqueeze(1)
    below = torch.baddbmm(bias, rows, rows.transpose(1, 2)).logsumexp(2)
    above = (one * two).sum(2).repeat(1, 2)
    # what there is to be told apart from, counted: sums of ones are exact
    some = both.to(rows.dtype) @ (weights > 0).to(rows.dtype).T > 0
    valid = both & some
    return mean_of_valid(torch.where(valid, below - above, 0), valid)


def _halved(z: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Series (B, T // 2, D) of the larger of each two valid steps, and whether either was valid."""
    low = torch.finfo(z.dtype).min
    larger = F.max_pool1d(torch.where(there.unsqueeze(2), z, low).transpose(1, 2), 2).transpose(1, 2)
    count = there.shape[1] // 2 * 2
    either = there[:, :count].unflatten(1, (-1, 2)).any(2)
    return torch.where(either.unsqueeze(2), larger, 0), either
