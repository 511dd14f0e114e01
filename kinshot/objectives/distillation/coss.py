"""CoSS: each sample, and each dimension over the batch, points where the teacher's does."""

from __future__ import annotations

from torch import Tensor

from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import full_precision
from kinshot.objectives.distillation.checks import directions, embeddings


@OBJECTIVES.register("coss", takes="teacher")
def coss(student: Tensor, teacher: Tensor) -> Tensor:
    """-mean cos(s_i, t_i) over rows - mean cos(s_d, t_d) over columns; -2 where both sides agree, 2 where they are opposite.

    Paper: Singh, Wang 2024, arXiv 2409.13939 (space similarity).

    A row or column of zeros has cosine 0. A positive factor on either side changes nothing; one for each row changes the columns.

    Args:
        student: embeddings (B, D).
        teacher: embeddings (B, D), without gradient.

    Raises:
        ConfigError: shapes that do not fit together, or a single sample.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    >>> round(kinshot.objectives.coss(student, teacher).item(), 3)
    -1.974
    """
    ours, theirs = embeddings("coss", student, teacher, least=2, same_width=True)
    with full_precision(ours):
        return -_agreement(ours, theirs, 1) - _agreement(ours, theirs, 0)


def _agreement(ours: Tensor, theirs: Tensor, dim: int) -> Tensor:
    """Mean cosine of vectors along `dim`."""
    return (directions(ours, dim) * directions(theirs, dim)).sum(dim).mean()
