"""DarkRank: the student ranks a sample's nearest in the teacher's order."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, distances, full_precision
from kinshot.objectives.distillation.checks import directions, embeddings


@OBJECTIVES.register("darkrank", takes="teacher")
def darkrank(student: Tensor, teacher: Tensor, *, alpha: float = 3.0, beta: float = 3.0, length: int = 4, normalize: bool = True) -> Tensor:
    """-mean_i sum_k log softmax_(j >= k) (-alpha d(s_i, s_pi(j))^beta): the likelihood of pi, the teacher's `length` nearest in order.

    Paper: Chen, Wang, Zhang 2017, arXiv 1707.01220, in its hard form.

    A sample is no candidate of its own list, also where a duplicate is as near as it is itself; the released code drops the first
    of the sorted list instead. Equally near ones keep the order of the batch. Distances are of unit rows unless `normalize` says
    otherwise; the released code takes what comes, and d^3 of long rows saturates.

    Args:
        student: embeddings (B, D).
        teacher: embeddings (B, D2), without gradient.
        alpha: multiplies the distance; above 0.
        beta: exponent of the distance; above 0.
        length: L, how many of the nearest are ranked, at least 2; a batch needs L + 1 samples.
        normalize: scale the rows of both sides to length 1 first.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a batch too small for `length`.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> student, teacher = torch.cat([student, -student]), torch.cat([teacher, -teacher])
    >>> round(kinshot.objectives.darkrank(student, teacher).item(), 3)
    8.492
    """
    check_above("alpha", alpha)
    check_above("beta", beta)
    if length < 2:
        raise ConfigError(f"length: expected at least 2 samples to rank, got {length}")
    ours, theirs = embeddings("darkrank", student, teacher, least=length + 1)
    with full_precision(ours):
        if normalize:
            ours, theirs = directions(ours), directions(theirs)
        scores = -alpha * distances(ours, ours[_nearest(theirs, length)]).pow(beta)
        left = torch.stack([scores[:, k:].logsumexp(1) for k in range(length)], dim=1)
        return (left - scores).sum(1).mean()


def _nearest(rows: Tensor, length: int) -> Tensor:
    """The `length` nearest others of each row (B, D), nearest first: int64 (B, length)."""
    far = distances(rows, rows).fill_diagonal_(torch.inf)
    return far.sort(dim=1, stable=True).indices[:, :length]
