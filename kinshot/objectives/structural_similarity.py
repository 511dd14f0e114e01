"""Structure: what is similar to what in one view of a batch stays so in the other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import ABSENT, check_above, check_choice, full_precision, unit


@OBJECTIVES.register("structural_similarity", takes="views")
def structural_similarity(
    first: Tensor,
    second: Tensor,
    ids: Tensor | None = None,
    *,
    form: Literal["kl", "distance", "cka"] = "kl",
    temperature: float = 0.1,
) -> Tensor:
    """How much the similarities among the samples of a batch differ between two views of it; 0 where they agree.

    With R_ij = cos(a_i, a_j) / temperature in either view, over j that show another sample than i:

    * `kl`: mean over i of half of KL(P'_i || P''_i) + KL(P''_i || P'_i), where P_i is the softmax of row i. The first argument of
      each KL is a fixed target, so no gradient flows into it;
    * `distance`: mean over the pairs of (R'_ij - R''_ij)^2, with gradient into both views;
    * `cka`: 1 - linear centred-kernel alignment of the two complete matrices of cosines, so that copies and the temperature change
      nothing of its form; with gradient into both views.

    No label is read, and a rotation of one view's space changes nothing. Embeddings that are all alike have loss 0 under `kl` and
    `distance`: something else must keep them apart (other losses, or batch normalisation before the unit sphere).

    Paper: Li, Cui, Li, Wang, Wong 2021, arXiv 2112.12359 (Dual Path Structural Contrastive Embeddings). This is a reconstruction
        from its abstract: the paper's formula is not known to us. `distance` is in the manner of Park, Kim, Lu, Cho 2019,
        arXiv 1904.05068 (relational knowledge distillation), on cosines, squared, and without their division by the mean
        distance; `cka` is Kornblith, Norouzi, Lee, Hinton 2019, arXiv 1905.00414.

    Args:
        first: one view's embeddings (B, D), scaled to unit length here.
        second: the other view's (B, D2), same samples in the same order.
        ids: int64 (B,), which sample each row shows: copies are left out as a row itself is. None = all differ.
        form: see above.
        temperature: divides every similarity; above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> first = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> round(kinshot.objectives.structural_similarity(first, first[[0, 2, 1]]).item(), 3)
    2.228
    """
    check_choice("form", form, ("kl", "distance", "cka"))
    check_above("temperature", temperature)
    if first.dim() != 2 or second.dim() != 2 or len(first) != len(second) or len(first) == 0:
        got = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ConfigError(f"structural_similarity: expected two views (B, D) of the same samples, got {got}")
    if ids is not None and ids.shape != first.shape[:1]:
        raise ConfigError(f"structural_similarity: expected one id for each of {len(first)} rows, got {tuple(ids.shape)}")
    with full_precision(first):
        one, two = (rows @ rows.T for rows in (unit(first), unit(second)))
        if form == "cka":
            return _unaligned(one, two)
        others = _others(len(one), ids, one.device)
        if form == "distance":
            squares = ((one - two) / temperature).square().masked_fill(~others, 0)
            return squares.sum() / others.sum().clamp_min(1)
        logs = [F.log_softmax((one_view / temperature).masked_fill(~others, ABSENT), dim=1) for one_view in (one, two)]
        return (_divergence(logs[0], logs[1]) + _divergence(logs[1], logs[0])) / 2


def _others(count: int, ids: Tensor | None, device: torch.device) -> Tensor:
    """Which pairs show two samples, bool (B, B)."""
    names = torch.arange(count, device=device) if ids is None else ids
    return names.unsqueeze(1) != names


def _divergence(target: Tensor, logs: Tensor) -> Tensor:
    """Mean over rows of KL(target || logs), both logarithms of probabilities (B, B); the target is fixed.

    A row without any other sample is uniform in both and costs 0.
    """
    target = target.detach()
    return (target.exp() * (target - logs)).sum(1).mean()


def _unaligned(one: Tensor, two: Tensor) -> Tensor:
    """1 - CKA of two kernels (B, B); 1 where one of them is constant, 0 for a single row, where there is nothing to compare."""
    if len(one) == 1:
        return (one + two).sum() * 0
    centred = [_centred(kernel) for kernel in (one, two)]
    # a constant kernel leaves rounding noise, which must not be blown up to a direction
    least = 8 * len(one) * torch.finfo(one.dtype).eps
    # sums are pairwise in torch, norms of many numbers are not
    lengths = [kernel.square().sum().clamp_min(least**2).sqrt() for kernel in centred]
    return 1 - (centred[0] / lengths[0] * (centred[1] / lengths[1])).sum()


def _centred(kernel: Tensor) -> Tensor:
    """H K H with H = I - 1/B."""
    kernel = kernel - kernel.mean(0)
    return kernel - kernel.mean(1, keepdim=True)
