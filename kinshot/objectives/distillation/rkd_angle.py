"""Relational distillation, triplets: the angles that samples form, exact in little memory or over drawn triplets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import at_least_float32, check_above, check_choice, full_precision
from kinshot.objectives.distillation.angle_sweep import COINCIDE, AngleSweep
from kinshot.objectives.distillation.checks import embeddings
from kinshot.objectives.distillation.relations import pair_distances, pair_places
from kinshot.objectives.module import ObjectiveModule


def angle_relation(z: Tensor) -> Tensor:
    """psi_A (N, N, N): at [a, b, c] the cosine of the angle at a between the directions to b and to c.

    u_ab = (z_b - z_a) / ||z_b - z_a||, and 0 for samples less than 1e-12 apart, with gradient 0; psi_A = <u_ab, u_ac>. All of it at once,
    in N^2 D + N^3 of memory: to look at, or for small batches.

    Args:
        z: embeddings (N, D).
    """
    with full_precision(z):
        z = at_least_float32(z)
        differences = z[None, :] - z[:, None]
        lengths = differences.norm(dim=2, keepdim=True)
        apart = lengths > COINCIDE
        directions = torch.where(apart, differences, 0) / torch.where(apart, lengths, 1)
        return directions @ directions.transpose(1, 2)


def rkd_angle(
    student: Tensor,
    teacher: Tensor,
    *,
    reduction: Literal["reference", "valid"] = "reference",
    chunk: int | None = None,
    triples: Tensor | None = None,
) -> Tensor:
    """Angles among a batch's samples as the teacher sees them (RKD-A).

    `mean over a, b, c of h(psi_A(student)_abc - psi_A(teacher)_abc)`, h Huber's function with delta 1, see `angle_relation`.
    Scale, translation and rotation of either side change nothing. The gradient is worked out with the value; there is no
    second derivative.

    Paper: Park, Kim, Lu, Cho 2019, arXiv 1904.05068 (Relational Knowledge Distillation). One departure: where samples coincide in the
        student, the authors' code divides the gradient of their direction by 1e-12; here it is 0.

    Args:
        student: embeddings (N, D).
        teacher: those of the same samples (N, D2), any width.
        reduction: "reference" divides by all N^3 triples, "valid" by the N (N - 1) (N - 2) of three samples, and leaves the others out.
        chunk: vertices a at a time; None = all, which is fastest. Either way the work is done in tiles that fit a processor's cache,
            each angle, which has two equal sides, once: beside them it takes some N^2 numbers of memory. The value is the same.
        triples: int64 (T, 3), rows a, b, c, for the mean over these alone, see `draw_triples`; None = all of them.

    Raises:
        ConfigError: shapes that do not fit, a batch of one, a setting out of range.
    """
    check_choice("reduction", reduction, ("reference", "valid"))
    if chunk is not None and chunk < 1:
        raise ConfigError(f"chunk: expected at least 1 vertex at a time, got {chunk}; None picks a size")
    student, teacher = embeddings("rkd_angle", student, teacher, least=2)
    with full_precision(student):
        if triples is not None:
            return _of_triples(student, teacher, triples, reduction)
        count, valid = len(student), reduction == "valid"
        wanted = student.requires_grad and torch.is_grad_enabled()
        total = AngleSweep.apply(student, teacher, chunk, valid, wanted)
    return total / (max(1, count * (count - 1) * (count - 2)) if valid else count**3)


def draw_triples(count: int, samples: int, generator: torch.Generator) -> Tensor:
    """Triples int64 (count, 3) for `rkd_angle`, uniform over all that `samples` samples form: its mean over them is without bias."""
    return torch.randint(samples, (count, 3), generator=generator)


@OBJECTIVES.register("rkd_angle", takes="teacher")
class RKDAngle(ObjectiveModule):
    """Angles among a batch's samples as the teacher sees them (RKD-A).

    The mean of h(psi_A(student) - psi_A(teacher)) over triples of samples, h Huber's function with delta 1; see `rkd_angle`, which it
    calls, with fresh triples in every step where `triplets` are asked for.

    Paper: Park, Kim, Lu, Cho 2019, arXiv 1904.05068 (Relational Knowledge Distillation). Its weight is 2 on embeddings, beside 1 of
        `rkd_distance`; 50 and 25 beside cross-entropy, on what the last pooling gives (not on logits).

    Args:
        student: shape of one sample of the student.
        teacher: that of the teacher.
        context: the run, whose seed keys the triples; left out, the seed is 0.
        reduction: "reference" divides by all N^3 triples, "valid" by those of three samples.
        chunk: vertices at a time; None = all, which is fastest. Value and memory hardly change: it is done in small tiles either way.
        triplets: this many triples drawn in each step, an estimate without bias; None = all of them, exactly.

    Raises:
        ConfigError: a setting out of range, or outputs that are not vectors.

    >>> student = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> teacher = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])  # of another width
    >>> loss = kinshot.objectives.rkd_angle(student.shape[1:], teacher.shape[1:])
    >>> round(loss(student, teacher, torch.arange(3), step=0).item(), 3)
    0.028
    """

    def __init__(
        self,
        student: tuple[int, ...],
        teacher: tuple[int, ...],
        context: RunContext | None = None,
        *,
        reduction: Literal["reference", "valid"] = "reference",
        chunk: int | None = None,
        triplets: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("reduction", reduction, ("reference", "valid"))
        for name, value in (("chunk", chunk), ("triplets", triplets)):
            if value is not None:
                check_above(name, value)
        if len(student) != 1 or len(teacher) != 1:
            raise ConfigError(
                f"rkd_angle: expected embeddings (D,) of a sample, got student {student} and teacher {teacher}; pool maps first"
            )
        self.reduction, self.chunk, self.triplets, self.seed = reduction, chunk, triplets, 0 if context is None else context.seed

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor | None = None, step: int = 0) -> Tensor:
        """The loss of one batch, 0-dim.

        Args:
            student: (N, D).
            teacher: (N, D2).
            indices: int64 (N,), not used.
            step: 0-based step of the run; keys the triples.
        """
        triples = None
        if self.triplets is not None:
            generator = keyed_generator(self.seed, "rkd_angle/triples", step)
            triples = draw_triples(self.triplets, len(student), generator).to(student.device)
        return rkd_angle(student, teacher, reduction=self.reduction, chunk=self.chunk, triples=triples)


def _of_triples(student: Tensor, teacher: Tensor, triples: Tensor, reduction: Literal["reference", "valid"]) -> Tensor:
    """The mean over given triples."""
    if triples.dim() != 2 or triples.shape[1] != 3 or len(triples) == 0 or triples.dtype != torch.int64:
        raise ConfigError(f"triples: expected int64 (T, 3) with T >= 1, got {triples.dtype} {tuple(triples.shape)}")
    if int(triples.min()) < 0 or int(triples.max()) >= len(student):
        found = f"{int(triples.min())} to {int(triples.max())}"
        raise ConfigError(f"triples: expected rows 0 to {len(student) - 1} of the batch, got {found}")
    a, b, c = triples.unbind(1)
    edges = [pair_places(one, other, len(student)) for one, other in ((a, b), (a, c), (b, c))]
    costs = F.huber_loss(_cosines(student, edges), _cosines(teacher, edges), reduction="none")
    if reduction == "reference":
        return costs.mean()
    valid = (a != b) & (a != c) & (b != c)
    return torch.where(valid, costs, 0).sum() / valid.sum().clamp_min(1)


def _cosines(z: Tensor, edges: list[tuple[Tensor, Tensor]]) -> Tensor:
    """<u_ab, u_ac> (T,) by the law of cosines; `edges` are the places of ab, ac and bc, and where their two ends are one sample."""
    distances = pair_distances(z)
    one, other, opposite = (distances.index_select(0, place).masked_fill(same, 0) for place, same in edges)
    apart = (one > COINCIDE) & (other > COINCIDE)
    return torch.where(apart, one.square() + other.square() - opposite.square(), 0) / torch.where(apart, 2 * one * other, 1)
