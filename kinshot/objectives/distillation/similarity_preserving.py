"""Similarity-preserving distillation: what is similar in a batch to the teacher is so to the student."""

from __future__ import annotations

from torch import Tensor

from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import full_precision
from kinshot.objectives.distillation.checks import both, directions


@OBJECTIVES.register("similarity_preserving", takes="teacher")
def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """|| rownorm(S S^T) - rownorm(T T^T) ||_F^2 / B^2, where S and T have a flattened sample in each row.

    Paper: Tung, Mori 2019, arXiv 1907.09682.

    A positive factor or a rotation of either side changes nothing. The products are of the outputs as they are, so that samples
    with large outputs dominate their rows.

    Args:
        student: embeddings (B, D), or feature maps of any size, flattened here.
        teacher: the same of any other width or size, without gradient.

    Raises:
        ConfigError: shapes that do not fit together, or a single sample.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> round(kinshot.objectives.similarity_preserving(student, teacher).item(), 3)
    0.059
    """
    ours, theirs = both("similarity_preserving", student, teacher, least=2)
    with full_precision(ours):
        return (_similarities(ours) - _similarities(theirs)).square().mean()


def _similarities(outputs: Tensor) -> Tensor:
    """Products of a batch's samples, each row at length 1: (B, B)."""
    rows = outputs.flatten(1)
    return directions(rows @ rows.T)
