"""CompRess: the student is as similar as the teacher is to anchors that a memory holds."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, check_choice, full_precision
from kinshot.objectives.distillation.checks import common_width, directions, embeddings, same_shape, width
from kinshot.objectives.distillation.sample_queue import SampleQueue, queue_length, similarities
from kinshot.objectives.module import ObjectiveModule


def anchored_divergence(
    student: Tensor,
    teacher: Tensor,
    student_anchors: Tensor,
    teacher_anchors: Tensor,
    held: Tensor | None = None,
    *,
    temperature: float = 0.04,
) -> Tensor:
    """mean KL(softmax(t.A_t / T) || softmax(s.A_s / T)) of unit rows s and t.

    Paper: Abbasi Koohpayegani, Tejankar, Pirsiavash 2020, arXiv 2010.14713.

    Args:
        student: (B, D).
        teacher: (B, D2), without gradient.
        student_anchors: A_s (K, D), unit keys of K samples in the student's space; without gradient.
        teacher_anchors: A_t (K, D2), of the same samples in the teacher's.
        held: which anchors count, bool (K,); None = all. Without any the loss is 0.
        temperature: T, above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    check_above("temperature", temperature)
    ours, theirs = embeddings("compress", student, teacher)
    with full_precision(ours):
        target = similarities(directions(theirs), teacher_anchors, held, temperature).log_softmax(1)
        logs = similarities(directions(ours), student_anchors, held, temperature).log_softmax(1)
        return (target.exp() * (target - logs)).sum(1).mean()


@OBJECTIVES.register("compress", takes="teacher")
class Compress(ObjectiveModule):
    """KL of both sides' softmax over the similarities to the same anchors, the latest samples in a memory.

    Paper: Abbasi Koohpayegani, Tejankar, Pirsiavash 2020, arXiv 2010.14713.

    mean KL(softmax(t.A_t / T) || softmax(s.A / T)) of unit rows. With `1q` the anchors are teacher keys for both sides, which must
    be equally wide; with `2q` the student has a memory of its own, of the keys it gave the same samples when they came by, without
    a momentum copy of it. Memories are empty at first and only what they hold counts: the loss of the first step is 0.

    Args:
        student: shape of the student's embedding, (D,).
        teacher: shape of the teacher's, (D2,).
        context: what is known of the run.
        variant: one memory of teacher keys, or one for each side.
        size: anchors in a memory, and at most as many as the data set has samples.
        temperature: divides all similarities; above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that are not of embeddings, or with `1q` not equally wide.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> context = kinshot.RunContext(num_samples=3, batch_size=3, steps_per_epoch=1, total_steps=10, seed=0)
    >>> loss = kinshot.objectives.compress(student.shape[1:], teacher.shape[1:], context)
    >>> loss(student, teacher, torch.arange(3), step=0).shape, loss.after_step()
    (torch.Size([]), None)
    """

    def __init__(
        self,
        student: tuple[int, ...],
        teacher: tuple[int, ...],
        context: RunContext,
        *,
        variant: Literal["1q", "2q"] = "2q",
        size: int = 128000,
        temperature: float = 0.04,
    ) -> None:
        super().__init__()
        check_choice("variant", variant, ("1q", "2q"))
        check_above("temperature", temperature)
        self.temperature = temperature
        self._shapes = (width("compress", "student", student),), (width("compress", "teacher", teacher),)
        length = queue_length(size, context.num_samples)
        if variant == "1q":
            common_width("compress with variant 1q (2q takes other widths)", student, teacher)
        self.of_teacher = SampleQueue(length, *self._shapes[1])
        self.of_student = SampleQueue(length, *self._shapes[0]) if variant == "2q" else None

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor, step: int) -> Tensor:
        """`anchored_divergence` with the memories, of rows (B, D), (B, D2) that show samples `indices` (B,); `step` plays no part."""
        ours, theirs = embeddings("compress", student, teacher)
        for side, batch, shape in zip(("student", "teacher"), (ours, theirs), self._shapes, strict=True):
            same_shape("compress", side, batch, shape)
        self.of_teacher.remember(directions(theirs), indices)
        if self.of_student is not None:
            self.of_student.remember(directions(ours), indices)
        anchors = self.of_teacher if self.of_student is None else self.of_student
        return anchored_divergence(ours, theirs, anchors.keys, self.of_teacher.keys, self.of_teacher.held, temperature=self.temperature)

    def after_step(self) -> None:
        """Store the step's keys as anchors."""
        self.of_teacher.commit()
        if self.of_student is not None:
            self.of_student.commit()
