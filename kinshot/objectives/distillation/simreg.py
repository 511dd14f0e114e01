"""SimReg: a head on the student regresses the teacher's unit embedding, and is dropped after training."""

from __future__ import annotations

from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, full_precision
from kinshot.objectives.distillation.checks import directions, embeddings, same_shape, width
from kinshot.objectives.module import ObjectiveModule


def unit_regression(predicted: Tensor, teacher: Tensor) -> Tensor:
    """mean_i || p_i / |p_i| - t_i / |t_i| ||^2, from 0 to 4.

    Paper: Navaneet, Koohpayegani, Tejankar, Pirsiavash 2021, arXiv 2201.05131.

    Args:
        predicted: what a head makes of the student's rows, (B, D).
        teacher: (B, D), without gradient.

    Raises:
        ConfigError: shapes that do not fit together.
    """
    ours, theirs = embeddings("simreg", predicted, teacher, same_width=True)
    with full_precision(ours):
        return (directions(ours) - directions(theirs)).square().sum(1).mean()


@OBJECTIVES.register("simreg", takes="teacher")
class SimReg(ObjectiveModule):
    """mean_i || unit(head(s_i)) - unit(t_i) ||^2, where the head is learned and is no part of the student.

    Paper: Navaneet, Koohpayegani, Tejankar, Pirsiavash 2021, arXiv 2201.05131.

    The head is `blocks` of linear to twice the student's width, batch normalisation, ReLU, linear back (in the last block to the
    teacher's width); two of them are the released code's head of four layers. With a single block that code has neither
    normalisation nor ReLU, which makes its head linear; here it has both. The normalisation is of the batch alone and keeps no
    averages, as nothing evaluates the head.

    Args:
        student: shape of the student's embedding, (D,).
        teacher: shape of the teacher's, (D2,).
        context: what is known of the run; plays no part, and may be left out.
        blocks: pairs of layers in the head, at least 1.

    Raises:
        ConfigError: a setting out of range, or shapes that are not of embeddings.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> loss = kinshot.objectives.simreg(student.shape[1:], teacher.shape[1:])
    >>> loss(student, teacher, torch.arange(3), step=0).shape, loss.after_step()
    (torch.Size([]), None)
    """

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...], context: RunContext | None = None, *, blocks: int = 2) -> None:
        super().__init__()
        check_above("blocks", blocks)
        self._widths = width("simreg", "student", student), width("simreg", "teacher", teacher)
        self.head = _head(*self._widths, blocks)

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor | None = None, step: int = 0) -> Tensor:
        """`unit_regression` of the head on rows (B, D), and rows (B, D2), B at least 2; `indices` and `step` play no part."""
        ours, theirs = embeddings("simreg", student, teacher, least=2)
        for side, batch, wide in zip(("student", "teacher"), (ours, theirs), self._widths, strict=True):
            same_shape("simreg", side, batch, (wide,))
        with full_precision(ours):
            return unit_regression(self.head(ours.to(next(self.head.parameters()).dtype)), theirs)


def _head(student: int, teacher: int, blocks: int) -> nn.Sequential:
    """Rows (B, student) to rows (B, teacher)."""
    layers: list[nn.Module] = []
    for block in range(blocks):
        layers += [
            nn.Linear(student, 2 * student),
            nn.BatchNorm1d(2 * student, track_running_stats=False),
            nn.ReLU(),
            nn.Linear(2 * student, teacher if block == blocks - 1 else student),
        ]
    return nn.Sequential(*layers)
