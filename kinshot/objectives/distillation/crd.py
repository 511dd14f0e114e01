"""CRD: a sample's projections on both sides are told from those of other samples, which a queue holds."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import ABSENT, check_above, full_precision, products
from kinshot.objectives.distillation.checks import directions, embeddings, same_shape, width
from kinshot.objectives.distillation.sample_queue import SampleQueue, queue_length
from kinshot.objectives.module import ObjectiveModule

# As in the released code: keeps its logarithms finite.
_EPS = 1e-7


Scores = tuple[Tensor, Tensor]
"""<row, key> / temperature, which is the logarithm of o Z in the notation of `contrast_nce`: of own keys (B,), of others (B, K)."""


def contrast_scores(rows: Tensor, own: Tensor, others: Tensor, temperature: float = 0.07) -> Scores:
    """How much the projections of one side resemble keys of the other.

    Args:
        rows: unit projections of one side (B, D).
        own: the other side's projection of the same sample (B, D), without gradient.
        others: the other side's of other samples: shared (K, D), or each row's own (B, K, D); without gradient.
        temperature: above 0.
    """
    rows = rows / temperature
    return (rows * own.detach()).sum(1), products(rows, others.detach().to(rows))


def log_normalizer(scores: Scores, counted: Tensor, n: int) -> Tensor:
    """log Z, 0-dim, where Z = n * mean(exp(scores)), so that o = exp(scores) / Z is 1/n on average.

    Args:
        scores: see `contrast_scores`.
        counted: which of the K others take part, bool (B, K); own keys always do.
        n: samples in the data set.
    """
    own, others = scores[0].detach(), scores[1].detach().masked_fill(~counted, ABSENT)
    total = torch.cat([own, others.logsumexp(1)]).logsumexp(0)
    return total - (len(own) + counted.sum()).to(total).log() + math.log(n)


def contrast_nce(scores: Scores, counted: Tensor, log_z: Tensor, n: int) -> Tensor:
    """-mean_b [ log o_b0 / (o_b0 + m/n + eps) + sum_k log (m/n) / (o_bk + m/n + eps) ], where o = exp(scores) / Z and eps = 1e-7.

    Paper: Tian, Krishnan, Isola 2019, arXiv 1910.10699, as released.

    Computed from logarithms, so that no temperature overflows.

    Args:
        scores: see `contrast_scores`; o_b0 is of the own key.
        counted: which of the K others are negatives, bool (B, K); m is their number in a row, and a row without any costs 0.
        log_z: log Z, 0-dim, see `log_normalizer`.
        n: samples in the data set; noise has probability 1/n.
    """
    own, others = scores
    count = counted.sum(1).to(own)
    noise = count.clamp_min(1) / n
    slack = (_EPS / noise).log1p()  # log (m/n + eps) - log (m/n)
    level = noise.log() + slack + log_z
    negatives = F.softplus(others - level.unsqueeze(1)).masked_fill(~counted, 0).sum(1) + count * slack
    return (F.softplus(level - own) + negatives).masked_fill(count == 0, 0).mean()


@OBJECTIVES.register("crd", takes="teacher")
class CRD(ObjectiveModule):
    """Noise-contrastive estimation between learned projections of both sides, against a queue of other samples' projections.

    Paper: Tian, Krishnan, Isola 2019, arXiv 1910.10699; a queue in place of two banks as its author advises for large data sets.

    L(student against teacher keys) + L(teacher against student keys), each `contrast_nce`. Both projections, linear and then of unit
    length, are learned. Departures from the released code: negatives are the latest samples and not drawn from banks of one row per
    sample; the own key is the other side's projection of this step, not a running mean of former ones; negatives differ in index
    (its "relax"), as labels play no part. As there, no gradient flows into keys, and each Z is fixed at the first step that has a
    negative. The queues are empty at first, so the loss of the first step is 0.

    Args:
        student: shape of the student's embedding, (D,).
        teacher: shape of the teacher's, (D2,).
        context: what is known of the run.
        size: keys in each queue, and at most as many as the data set has samples.
        dim: width that both sides are projected to.
        temperature: divides all similarities; above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that are not of embeddings.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> context = kinshot.RunContext(num_samples=3, batch_size=3, steps_per_epoch=1, total_steps=10, seed=0)
    >>> loss = kinshot.objectives.crd(student.shape[1:], teacher.shape[1:], context)
    >>> loss(student, teacher, torch.arange(3), step=0).shape, loss.after_step()
    (torch.Size([]), None)
    """

    log_z: Tensor
    fixed: Tensor

    def __init__(
        self,
        student: tuple[int, ...],
        teacher: tuple[int, ...],
        context: RunContext,
        *,
        size: int = 16384,
        dim: int = 128,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        check_above("dim", dim)
        check_above("temperature", temperature)
        self.temperature = temperature
        self.num_samples = context.num_samples
        self.project_student = nn.Linear(width("crd", "student", student), dim)
        self.project_teacher = nn.Linear(width("crd", "teacher", teacher), dim)
        length = queue_length(size, context.num_samples)
        self.of_student = SampleQueue(length, dim)
        self.of_teacher = SampleQueue(length, dim)
        self.register_buffer("log_z", torch.zeros(2))
        self.register_buffer("fixed", torch.zeros((), dtype=torch.bool))
        self._measured: tuple[Tensor, Tensor] | None = None

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor, step: int) -> Tensor:
        """Both sides' losses summed, of rows (B, D) and (B, D2) that show samples `indices` (B,); `step` plays no part."""
        ours, theirs = embeddings("crd", student, teacher)
        same_shape("crd", "student", ours, (self.project_student.in_features,))
        same_shape("crd", "teacher", theirs, (self.project_teacher.in_features,))
        with full_precision(ours):
            dtype = self.project_student.weight.dtype
            v1, v2 = directions(self.project_student(ours.to(dtype))), directions(self.project_teacher(theirs.to(dtype)))
            self.of_student.remember(v1, indices)
            self.of_teacher.remember(v2, indices)
            others = self.of_teacher.of_others(indices)
            scores = (
                contrast_scores(v1, v2, self.of_teacher.keys, self.temperature),
                contrast_scores(v2, v1, self.of_student.keys, self.temperature),
            )
            log_z = self._log_z(scores, others)
            losses = [contrast_nce(one, others, z, self.num_samples) for one, z in zip(scores, log_z, strict=True)]
            return losses[0] + losses[1]

    def _log_z(self, scores: tuple[Scores, Scores], others: Tensor) -> Tensor:
        """The fixed constants, or those of this batch, which `after_step` fixes if the batch had a negative: (2,)."""
        measured = torch.stack([log_normalizer(one, others, self.num_samples) for one in scores]).to(self.log_z.dtype)
        log_z = torch.where(self.fixed, self.log_z, measured)
        self._measured = log_z, self.fixed | others.any()
        return log_z

    def after_step(self) -> None:
        """Store the step's projections, and Z if the step was the first with a negative."""
        self.of_student.commit()
        self.of_teacher.commit()
        if self._measured is not None:
            (log_z, fixed), self._measured = self._measured, None
            self.log_z.copy_(torch.where(fixed, log_z, self.log_z))
            self.fixed.copy_(fixed)
