"""SEED: the student is as similar as the teacher is to a queue of the teacher's keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, full_precision
from kinshot.objectives.distillation.checks import common_width, directions, embeddings, same_shape
from kinshot.objectives.distillation.sample_queue import SampleQueue, queue_length, similarities
from kinshot.objectives.module import ObjectiveModule


def seed_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    held: Tensor | None = None,
    *,
    student_temperature: float = 0.2,
    teacher_temperature: float = 0.01,
) -> Tensor:
    """-mean sum_k softmax([t.t, t.Q] / T_t)_k log softmax([s.t, s.Q] / T_s)_k of unit rows s and t.

    Paper: Fang, Wang, Wang, Zhang, Yang, Liu 2021, arXiv 2101.04731.

    Args:
        student: (B, D).
        teacher: (B, D), without gradient; class 0 of each row is its own teacher key.
        queue: Q (K, D), unit keys of the teacher.
        held: which rows of the queue count, bool (K,); None = all. Without any the loss is 0.
        student_temperature: T_s, above 0.
        teacher_temperature: T_t, above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    check_above("student_temperature", student_temperature)
    check_above("teacher_temperature", teacher_temperature)
    ours, theirs = embeddings("seed", student, teacher, same_width=True)
    with full_precision(ours):
        ours, theirs = directions(ours), directions(theirs)
        target = _logits(theirs, theirs, queue, held, teacher_temperature).softmax(1)
        return F.cross_entropy(_logits(ours, theirs, queue, held, student_temperature), target)


def _logits(rows: Tensor, own: Tensor, queue: Tensor, held: Tensor | None, temperature: float) -> Tensor:
    """Each row's similarity to its own key (B, D) and to the queue, over the temperature: (B, 1 + K)."""
    to_own = (rows * own).sum(1, keepdim=True) / temperature
    return torch.cat([to_own, similarities(rows, queue, held, temperature)], dim=1)


@OBJECTIVES.register("seed", takes="teacher")
class Seed(ObjectiveModule):
    """Cross-entropy of both sides' softmax over the similarities to a sample's own teacher key and to a queue of teacher keys.

    Paper: Fang, Wang, Wang, Zhang, Yang, Liu 2021, arXiv 2101.04731.

    -mean sum_k softmax([t.t, t.Q] / T_t)_k log softmax([s.t, s.Q] / T_s)_k. The queue is empty at first and only what it holds counts,
    where the released code starts with random keys: the loss of the first step is 0. A lower teacher temperature makes the target
    one-hot on the own key; the released code has 1e-4.

    Args:
        student: shape of the student's embedding, (D,).
        teacher: shape of the teacher's, (D,).
        context: what is known of the run.
        size: keys in the queue, and at most as many as the data set has samples.
        student_temperature: divides the student's similarities; above 0.
        teacher_temperature: divides the teacher's similarities; above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that are not of equally wide embeddings.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    >>> context = kinshot.RunContext(num_samples=3, batch_size=3, steps_per_epoch=1, total_steps=10, seed=0)
    >>> loss = kinshot.objectives.seed(student.shape[1:], teacher.shape[1:], context)
    >>> loss(student, teacher, torch.arange(3), step=0).shape, loss.after_step()
    (torch.Size([]), None)
    """

    def __init__(
        self,
        student: tuple[int, ...],
        teacher: tuple[int, ...],
        context: RunContext,
        *,
        size: int = 65536,
        student_temperature: float = 0.2,
        teacher_temperature: float = 0.01,
    ) -> None:
        super().__init__()
        check_above("student_temperature", student_temperature)
        check_above("teacher_temperature", teacher_temperature)
        wide = common_width("seed", student, teacher)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.queue = SampleQueue(queue_length(size, context.num_samples), wide)

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor, step: int) -> Tensor:
        """`seed_cross_entropy` with the queue, of rows (B, D) that show samples `indices` (B,); `step` plays no part."""
        ours, theirs = embeddings("seed", student, teacher, same_width=True)
        same_shape("seed", "teacher", theirs, self.queue.keys.shape[1:])
        self.queue.remember(directions(theirs), indices)
        return seed_cross_entropy(
            ours,
            theirs,
            self.queue.keys,
            self.queue.held,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
        )

    def after_step(self) -> None:
        """Store the step's teacher keys."""
        self.queue.commit()
