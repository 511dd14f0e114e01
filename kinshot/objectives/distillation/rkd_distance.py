"""Relational distillation, pairs: how far samples are from one another, in units of the batch's mean distance."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import at_least_float32, check_choice, full_precision
from kinshot.objectives.distillation.checks import embeddings
from kinshot.objectives.distillation.relations import pair_distances, square_form

CLOSEST = 1e-6  # the square root of 1e-12, below which the squared distance of two samples does not fall


def distance_relation(z: Tensor) -> Tensor:
    """psi_D (N, N): distances over their mean, with gradient through the mean too.

    D_ij = sqrt(max(||z_i - z_j||^2, 1e-12)), D_ii = 0; the mean is that of all D_ij > 0. Samples that coincide get no gradient
    from their distance.

    Args:
        z: embeddings (N, D), N >= 2.
    """
    with full_precision(z):
        return square_form(_scaled(at_least_float32(z)), len(z))


@OBJECTIVES.register("rkd_distance", takes="teacher")
def rkd_distance(student: Tensor, teacher: Tensor, *, reduction: Literal["reference", "valid"] = "reference") -> Tensor:
    """Distances among a batch's samples as the teacher sees them, up to scale (RKD-D).

    `mean over i, j of h(psi_D(student)_ij - psi_D(teacher)_ij)`, h Huber's function with delta 1, see `distance_relation`.
    Scale, translation and rotation of either side change nothing.

    Paper: Park, Kim, Lu, Cho 2019, arXiv 1904.05068 (Relational Knowledge Distillation). Its weight is 1 on embeddings, beside 2 of
        `rkd_angle`; 25 and 50 beside cross-entropy, on what the last pooling gives (not on logits).

    Args:
        student: embeddings (N, D), as they are: the paper's students do without unit length.
        teacher: those of the same samples (N, D2), any width.
        reduction: "reference" divides by all N^2 pairs, a sample and itself among them; "valid" by the N (N - 1) of two samples.

    Raises:
        ConfigError: shapes that do not fit, a batch of one, an unknown reduction.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> round(kinshot.objectives.rkd_distance(student, teacher).item(), 3)
    0.013
    """
    check_choice("reduction", reduction, ("reference", "valid"))
    student, teacher = embeddings("rkd_distance", student, teacher, least=2)
    with full_precision(student):
        mean = F.huber_loss(_scaled(student), _scaled(teacher))
    # every pair stands for its mirror image; a sample and itself agree on both sides
    return mean * ((len(student) - 1) / len(student)) if reduction == "reference" else mean


def _scaled(z: Tensor) -> Tensor:
    """psi_D of all pairs i < j."""
    found = pair_distances(z).clamp_min(CLOSEST)
    return found / found.mean()
