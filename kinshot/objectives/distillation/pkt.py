"""Probabilistic knowledge transfer: the same neighbors with the same probability."""

from __future__ import annotations

from torch import Tensor

from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import full_precision
from kinshot.objectives.distillation.checks import directions, embeddings

# Keeps the logarithm of opposite rows' probability, which is 0, finite; the same number as in the released code.
_EPS = 1e-7


@OBJECTIVES.register("pkt", takes="teacher")
def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_ij p_ij log(p_ij / q_ij), p of the teacher and q of the student: (cos + 1) / 2, each row scaled to sum 1.

    Paper: Passalis, Tefas 2018, arXiv 1803.10837.

    1e-7 is added to both probabilities inside the logarithm, as in the released code; a row's similarity to itself takes part, as
    there. Any positive factor, also one for each row, or a rotation of either side changes nothing.

    Args:
        student: embeddings (B, D).
        teacher: embeddings (B, D2), without gradient.

    Raises:
        ConfigError: shapes that do not fit together, or a single sample.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> round(kinshot.objectives.pkt(student, teacher).item(), 3)
    0.005
    """
    ours, theirs = embeddings("pkt", student, teacher, least=2)
    with full_precision(ours):
        q, p = _probabilities(ours), _probabilities(theirs)
        return (p * ((p + _EPS) / (q + _EPS)).log()).mean()


def _probabilities(rows: Tensor) -> Tensor:
    """How likely each sample (B, D) picks each as its neighbor: rows (B, B) of sum 1."""
    rows = directions(rows)
    # opposite rows may come out below 0 by rounding
    alike = ((rows @ rows.T + 1) / 2).clamp_min(0)
    return alike / alike.sum(1, keepdim=True)
