"""Correlation congruence, as it is commonly implemented: the student errs on neighbors of the batch in different dimensions."""

from __future__ import annotations

from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, full_precision
from kinshot.objectives.distillation.checks import embeddings, same_shape, width
from kinshot.objectives.module import ObjectiveModule


def neighbor_congruence(ours: Tensor, theirs: Tensor) -> Tensor:
    """mean_i < |s_i - t_i|, |s_(i+1) - t_(i+1)| > over the B - 1 pairs of consecutive rows; 0 where both sides agree.

    Args:
        ours: the student's rows (B, D), B at least 2.
        theirs: the teacher's (B, D).
    """
    errors = (ours - theirs).abs()
    return (errors[:-1] * errors[1:]).sum(1).mean()


@OBJECTIVES.register("correlation_congruence", takes="teacher")
class CorrelationCongruence(ObjectiveModule):
    """mean_i < |s_i - t_i|, |s_(i+1) - t_(i+1)| > after learned linear maps of both sides; it depends on the order of the batch.

    Paper: Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang 2019, arXiv 1904.01802.

    This is the loss of the RepDistiller benchmark, under whose weight of 0.02 it is known, and not the paper's, which compares
    kernels of all pairs. Consecutive rows are what the shuffle of the data made neighbors. Both maps are learned, as there: nothing
    but the other losses keeps them from shrinking together.

    Args:
        student: shape of the student's embedding, (D,).
        teacher: shape of the teacher's, (D2,).
        context: what is known of the run; plays no part, and may be left out.
        dim: width that both sides are mapped to.

    Raises:
        ConfigError: a setting out of range, or shapes that are not of embeddings.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> loss = kinshot.objectives.correlation_congruence(student.shape[1:], teacher.shape[1:])
    >>> loss(student, teacher, torch.arange(3), step=0).shape, loss.after_step()
    (torch.Size([]), None)
    """

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...], context: RunContext | None = None, *, dim: int = 128) -> None:
        super().__init__()
        check_above("dim", dim)
        self.of_student = nn.Linear(width("correlation_congruence", "student", student), dim)
        self.of_teacher = nn.Linear(width("correlation_congruence", "teacher", teacher), dim)

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor | None = None, step: int = 0) -> Tensor:
        """`neighbor_congruence` of the mapped rows (B, D) and (B, D2), B at least 2; `indices` and `step` play no part."""
        ours, theirs = embeddings("correlation_congruence", student, teacher, least=2)
        same_shape("correlation_congruence", "student", ours, (self.of_student.in_features,))
        same_shape("correlation_congruence", "teacher", theirs, (self.of_teacher.in_features,))
        with full_precision(ours):
            dtype = self.of_student.weight.dtype
            return neighbor_congruence(self.of_student(ours.to(dtype)), self.of_teacher(theirs.to(dtype)))
