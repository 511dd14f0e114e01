"""Rows of classes, and what objectives with such rows share: checks, cosines, a row's own class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import at_least_float32, check_above, full_precision, unit
from kinshot.objectives.proxies.directions import cosines


class ProxyRows(nn.Module):
    """One or several rows for each class, of length 1 at first and of any direction.

    `weight` is (classes * per_class, D), class after class: the rows of class c are c * per_class and those that follow. It is a
    parameter; where it is not `learned`, a buffer that somebody else moves.

    Args:
        dim: D.
        classes: how many there are.
        per_class: rows of each.
        learned: whether the rows take gradients.
        points: whether rows are points among the embeddings, near or far from them, and no directions.

    Raises:
        ConfigError: no class, no row of a class, or no number in a row.
    """

    weight: Tensor

    def __init__(self, dim: int, classes: int, per_class: int = 1, *, learned: bool = True, points: bool = False) -> None:
        super().__init__()
        check_above("dim", dim)
        check_above("rows of a class", per_class)
        if classes < 1:
            raise ConfigError(f"classes: expected at least 1 to learn rows of, got {classes}: take kin that know them, `kin: labels`")
        self.classes, self.per_class, self.points = classes, per_class, points
        drawn = unit(torch.randn(classes * per_class, dim))
        if learned:
            self.weight = nn.Parameter(drawn)
        else:
            self.register_buffer("weight", drawn)

    def cosines(self, z: Tensor) -> Tensor:
        """Cosines (B, classes * per_class) of embeddings (B, D) with every row."""
        with full_precision(z):
            return cosines(*in_one_type(z, self.weight))

    @torch.no_grad()
    def imprint_(self, rows: Tensor, classes: Tensor) -> None:
        """Write rows of classes, as they are; rows of one class take its places in their order, and a place that gets none stays.

        Args:
            rows: (M, D); of length 1 they start as the others did.
            classes: int64 (M,), the class of each.

        Raises:
            ConfigError: shapes that do not fit, a number that is not finite, a class that has no rows here, or more rows of a class than
                it has places.
        """
        if rows.shape != (len(classes), self.weight.shape[1]) or classes.dim() != 1 or classes.is_floating_point():
            got = f"{tuple(rows.shape)} and {classes.dtype} {tuple(classes.shape)}"
            raise ConfigError(f"imprint_: expected rows (M, {self.weight.shape[1]}) and the class of each, int64 (M,), got {got}")
        if not torch.isfinite(rows).all():
            raise ConfigError("imprint_: expected finite rows, got NaN or infinity: leave out what they come from")
        classes = classes.to(self.weight.device)
        if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < self.classes:
            raise ConfigError(f"imprint_: expected classes 0..{self.classes - 1}, got {int(classes.min())}..{int(classes.max())}")
        counts = torch.bincount(classes, minlength=self.classes)
        if int(counts.max()) > self.per_class:
            got = f"{int(counts.max())} of class {int(counts.argmax())}"
            raise ConfigError(f"imprint_: expected at most {self.per_class} rows of a class, got {got}: average or pick them")
        order = classes.argsort(stable=True)
        own = classes[order]
        place = torch.arange(len(own), device=own.device) - (counts.cumsum(0) - counts)[own]
        self.weight[own * self.per_class + place] = rows.to(self.weight)[order.to(rows.device)].to(self.weight.device)


def in_one_type(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in the widest floating type among them, float32 at least."""
    wide = [at_least_float32(tensor) for tensor in tensors]
    dtype = wide[0].dtype
    for one in wide[1:]:
        dtype = torch.promote_types(dtype, one.dtype)
    return tuple(one.to(dtype) for one in wide)


def checked(name: str, z: Tensor, weight: Tensor, y: Tensor | None = None, per_class: int = 1) -> tuple[Tensor, Tensor]:
    """Embeddings and rows in one floating type.

    Args:
        name: of the objective, for messages.
        z: (B, D).
        weight: (C * per_class, D).
        y: int64 (B,), negative = unknown; None = not asked for.
        per_class: rows of each class.

    Raises:
        ConfigError: shapes that do not fit together, or a class without rows.
    """
    if z.dim() != 2 or weight.dim() != 2 or z.shape[1] != weight.shape[1]:
        got = f"{tuple(z.shape)} and {tuple(weight.shape)}"
        raise ConfigError(f"{name}: expected embeddings (B, D) as wide as the rows of classes, got {got}: build it for this output's width")
    if per_class < 1 or len(weight) == 0 or len(weight) % per_class:
        raise ConfigError(f"{name}: expected {per_class} rows for each of at least one class, got {len(weight)} rows")
    if y is not None:
        if y.shape != z.shape[:1] or y.is_floating_point():
            raise ConfigError(f"{name}: expected an int64 class for each of {len(z)} embeddings, got {y.dtype} {tuple(y.shape)}")
        classes = len(weight) // per_class
        if len(y) and (highest := int(y.max())) >= classes:
            raise ConfigError(
                f"{name}: it has rows of classes 0..{classes - 1}, got class {highest}: build it for all classes, or call such a class -1"
            )
    wide_z, wide_weight = in_one_type(z, weight)
    return wide_z, wide_weight


def of_class(values: Tensor, y: Tensor) -> Tensor:
    """Each row's value at its class, (B,) of (B, C); of unknown classes that of class 0."""
    return values.gather(1, y.clamp(min=0).unsqueeze(1)).squeeze(1)


def with_own(values: Tensor, y: Tensor, own: Tensor) -> Tensor:
    """(B, C) with other values (B,) at each row's class; rows of unknown classes stay as they are."""
    own = torch.where(y < 0, values[:, 0], own)
    return values.scatter(1, y.clamp(min=0).unsqueeze(1), own.unsqueeze(1))


def soft_maximum(cosines: Tensor, per_class: int, gamma: float) -> Tensor:
    """Similarity (B, C) to classes of several rows, sum_k softmax_k(s_ck / gamma) s_ck, from (B, C * per_class).

    Paper: Qian, Shang, Sun, Hu, Li, Jin 2019, arXiv 1909.05235.
    """
    of_rows = cosines.unflatten(1, (-1, per_class))
    return ((of_rows * (1 / gamma)).softmax(dim=2) * of_rows).sum(dim=2)


def share(proxy_lr: float) -> float:
    """The share of the learning rate that rows take. Raises ConfigError unless it is above 0."""
    check_above("proxy_lr", proxy_lr)
    return float(proxy_lr)
