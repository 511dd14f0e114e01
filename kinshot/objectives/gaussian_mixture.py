"""Classes of the batch as Gaussians of one width: a row's posterior should be its class."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    ABSENT,
    at_least_float32,
    check_above,
    check_choice,
    classes_of,
    distances,
    full_precision,
    reduce,
    unit,
)


@OBJECTIVES.register("gaussian_mixture", takes="relation")
def gaussian_mixture(
    z: Tensor,
    relation: Relation,
    refs: None = None,
    *,
    error: Literal["squared", "cross_entropy"] = "squared",
    width: float = 1.0,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool = False,
) -> Tensor:
    """Mean over rows of sum_c (p_ic - [y_i = c])^2, p the softmax over present classes of -|z_i - mu_c|^2 / (2 w^2), mu the batch's means.

    Paper: Marrero Fernandez et al. 2020, arXiv 2001.06612.
    Departure: the released code adds 1e-15 to the sum that divides, so that a row far from every mean has no gradient at all; here the
        softmax is exact.

    With `error=cross_entropy` it is the loss of prototypical networks whose prototypes are the batch's own rows. A row counts in its
    own mean, so a class of one row costs next to nothing: draw several rows of a class.

    Args:
        z: (N, D).
        relation: of the batch's rows, (N, N), whose kin make classes, see `common.classes_of`.
        refs: None: classes are those of the batch.
        error: "squared", as the paper has it, or "cross_entropy": -log p of the row's class.
        width: w, standard deviation of every class, above 0.
        reduction: "mean" over all rows, "valid" over those of a known class, "sum", "none": (N,), or "each", see `common.reduce`.
        normalize: scales rows to length 1.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.gaussian_mixture(z, kinshot.kin.labels(y)).item(), 3)
    0.179
    """
    y = classes_of("gaussian_mixture", z, relation, refs)
    check_choice("error", error, ("squared", "cross_entropy"))
    check_above("width", width)
    with full_precision(z):
        rows = unit(z) if normalize else at_least_float32(z)
        same = (y.unsqueeze(1) == y) & (y >= 0)
        # each row carries its class's mean and the first row of a class stands for it: no count of classes is read off a GPU
        first = (y >= 0) & ~same.tril(-1).any(dim=1)
        share = same.to(rows.dtype)
        means = share @ rows / share.sum(dim=1, keepdim=True).clamp(min=1)
        logits = -distances(rows, means).square() / (2 * width**2)
        logs = logits.masked_fill(~first, ABSENT).log_softmax(dim=1)
        own = same & first
        if error == "cross_entropy":
            losses = -logs.masked_fill(~own, 0).sum(dim=1)
        else:
            losses = (logs.exp() - own.to(rows.dtype)).masked_fill(~first, 0).square().sum(dim=1)
        return reduce(losses, y >= 0, reduction)
