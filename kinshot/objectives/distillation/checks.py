"""What distillation losses share: both sides of a batch in one precision, shapes that fit, unit rows, maps of one size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import at_least_float32

# A length below this counts as 0.
_SHORTEST = 1e-12


def both(loss: str, student: Tensor, teacher: Tensor, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sides in one floating type, float32 or better; the teacher's without gradient.

    Args:
        loss: name of the loss, for messages.
        student: (B, ...).
        teacher: (B, ...), the same samples in the same order.
        least: samples that the loss needs.

    Raises:
        ConfigError: not batches of as many samples, nothing in a sample, or too few samples.
    """
    got = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
    if min(student.dim(), teacher.dim()) < 2 or len(student) != len(teacher):
        raise ConfigError(f"{loss}: expected outputs (B, ...) of both sides for the same B samples, got {got}: pass the same batch to both")
    if 0 in (*student.shape[1:], *teacher.shape[1:]):
        raise ConfigError(f"{loss}: expected outputs with at least one number for each sample, got {got}")
    if len(student) < least:
        raise ConfigError(f"{loss}: expected a batch of at least {least}, got {got}: raise the batch size")
    ours, theirs = at_least_float32(student), at_least_float32(teacher.detach())
    dtype = torch.promote_types(ours.dtype, theirs.dtype)
    return ours.to(dtype), theirs.to(dtype)


def embeddings(loss: str, student: Tensor, teacher: Tensor, *, least: int = 1, same_width: bool = False) -> tuple[Tensor, Tensor]:
    """`both` for embeddings (B, D) and (B, D2); with `same_width`, D = D2 or ConfigError."""
    ours, theirs = both(loss, student, teacher, least=least)
    got = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
    if ours.dim() != 2 or theirs.dim() != 2:
        raise ConfigError(f"{loss}: expected embeddings (B, D) on both sides, got {got}: take a layer after pooling")
    if same_width and ours.shape != theirs.shape:
        raise ConfigError(
            f"{loss}: expected both sides equally wide, got {got}: give the student a projection to {theirs.shape[1]} numbers"
        )
    return ours, theirs


def maps(loss: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """`both` for feature maps (B, C, H, W), each pooled to the smaller height and the smaller width of the two."""
    ours, theirs = both(loss, student, teacher)
    if ours.dim() != 4 or theirs.dim() != 4:
        got = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
        raise ConfigError(f"{loss}: expected feature maps (B, C, H, W) on both sides, got {got}: take a layer before pooling")
    size = min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3])
    ours, theirs = (x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (ours, theirs))
    return ours, theirs


def width(loss: str, side: str, shape: tuple[int, ...]) -> int:
    """D of a sample's shape (D,). Raises ConfigError for any other shape."""
    if len(shape) != 1 or shape[0] < 1:
        raise ConfigError(f"{loss}: expected an embedding (D,) of the {side}, got {tuple(shape)}: take a layer after pooling")
    return shape[0]


def common_width(loss: str, student: tuple[int, ...], teacher: tuple[int, ...]) -> int:
    """D where both sides' samples have the shape (D,). Raises ConfigError for any other shapes."""
    wide = width(loss, "teacher", teacher)
    if width(loss, "student", student) != wide:
        got = f"student {tuple(student)} and teacher {tuple(teacher)}"
        raise ConfigError(f"{loss}: expected both sides equally wide, got {got}: give the student a projection to {wide} numbers")
    return wide


def same_shape(loss: str, side: str, batch: Tensor, shape: tuple[int, ...]) -> None:
    """Raises ConfigError unless the samples of a batch have the shape that the loss was built for; maps may be of any size."""
    if batch.dim() != len(shape) + 1 or batch.shape[1] != shape[0]:
        got = tuple(batch.shape[1:])
        raise ConfigError(
            f"{loss}: built for samples {tuple(shape)} of the {side}, got {got}: build the loss for the layer that it is given"
        )


def directions(rows: Tensor, dim: int = -1) -> Tensor:
    """Vectors along `dim` scaled to length 1; zeros stay zeros.

    The gradient at zeros is of ordinary size, where that of a division by a tiny number would be 1e12: a unit of the student
    that is dead in a whole batch must not end the run.
    """
    lengths = torch.linalg.vector_norm(rows, dim=dim, keepdim=True)
    return rows / torch.where(lengths > _SHORTEST, lengths, 1)
