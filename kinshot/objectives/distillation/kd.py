"""Knowledge distillation: the student's class probabilities follow the teacher's, softened."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, full_precision
from kinshot.objectives.distillation.checks import embeddings


@OBJECTIVES.register("kd", takes="teacher")
def kd(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch; 0 where they agree up to a constant per row.

    Paper: Hinton, Vinyals, Dean 2015, arXiv 1503.02531.

    T^2 keeps the size of the gradient when T changes. Nothing here needs classes: the outputs of two projectors will do.

    Args:
        student: logits (B, C).
        teacher: logits (B, C), without gradient.
        temperature: T, above 0; higher makes the lesser classes count for more.

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or fewer than two logits.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    >>> round(kinshot.objectives.kd(student, teacher).item(), 3)
    0.194
    """
    check_above("temperature", temperature)
    ours, theirs = embeddings("kd", student, teacher, same_width=True)
    if ours.shape[1] < 2:
        raise ConfigError(f"kd: expected at least 2 logits for each sample, got {tuple(ours.shape)}")
    with full_precision(ours):
        target, logs = ((x / temperature).log_softmax(1) for x in (theirs, ours))
        return temperature**2 * (target.exp() * (target - logs)).sum(1).mean()
