"""FitNet: a learned linear map of the student's features hits the teacher's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import full_precision
from kinshot.objectives.distillation.checks import embeddings, maps, same_shape
from kinshot.objectives.module import ObjectiveModule


def hint_error(student: Tensor, teacher: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """mean (W s + b - t)^2 over samples, places and the teacher's channels; W acts on channels, as a 1 x 1 convolution.

    Paper: Romero, Ballas, Kahou, Chassang, Gatta, Bengio 2014, arXiv 1412.6550.

    Args:
        student: embeddings (B, D) or feature maps (B, D, H, W).
        teacher: embeddings (B, D2) or feature maps (B, D2, H2, W2), without gradient; maps are pooled to the smaller size.
        weight: W (D2, D).
        bias: b (D2,).

    Raises:
        ConfigError: shapes that do not fit together.
    """
    fit = embeddings if student.dim() == 2 else maps
    ours, theirs = fit("fitnet", student, teacher)
    with full_precision(ours):
        mapped = F.linear(ours.movedim(1, -1), weight.to(ours.dtype), bias.to(ours.dtype))
        return (mapped - theirs.movedim(1, -1)).square().mean()


@OBJECTIVES.register("fitnet", takes="teacher")
class FitNet(ObjectiveModule):
    """mean (W s + b - t)^2, where W, learned, is a 1 x 1 convolution for feature maps and a linear map for embeddings.

    Paper: Romero, Ballas, Kahou, Chassang, Gatta, Bengio 2014, arXiv 1412.6550.

    Maps of different size are pooled to the smaller, where the paper's map is a convolution without padding. W is not kept.

    Args:
        student: shape of the student's output for a sample, (D,) or (C, H, W).
        teacher: shape of the teacher's, of the same kind.
        context: what is known of the run; plays no part, and may be left out.

    Raises:
        ConfigError: an embedding on one side and a map on the other, or neither.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> loss = kinshot.objectives.fitnet(student.shape[1:], teacher.shape[1:])
    >>> loss(student, teacher, torch.arange(3), step=0).shape, loss.after_step()
    (torch.Size([]), None)
    """

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...], context: RunContext | None = None) -> None:
        super().__init__()
        if len(student) != len(teacher) or len(student) not in (1, 3) or 0 in (*student, *teacher):
            got = f"student {tuple(student)} and teacher {tuple(teacher)}"
            raise ConfigError(f"fitnet: expected embeddings (D,) on both sides, or feature maps (C, H, W) on both, got {got}")
        self._shapes = student, teacher
        self.regressor = nn.Linear(student[0], teacher[0])

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor | None = None, step: int = 0) -> Tensor:
        """`hint_error` with the learned map; `indices` and `step` play no part."""
        for side, batch, shape in zip(("student", "teacher"), (student, teacher), self._shapes, strict=True):
            same_shape("fitnet", side, batch, shape)
        return hint_error(student, teacher, self.regressor.weight, self.regressor.bias)
