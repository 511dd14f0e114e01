"""Ridge regression onto the labels, solved in closed form."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS
from kinshot.fewshot.transforms import one_hot
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("ridge", scores="similarities")
def ridge(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    penalty: float = 1.0,
    scale: float = 1.0,
    bias: float = 0.0,
    transform: Literal["none", "l2n", "cl2n"] = "none",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Ridge regression onto one-hot labels in closed form (R2D2); inductive.

    W = X^T (X X^T + penalty * I)^-1 Y, score = scale * q W + bias. The same minimum as scikit-learn's
    `Ridge(alpha=penalty, fit_intercept=False)`; scale and bias change the softmax of the scores and no prediction.

    Paper: Bertinetto, Henriques, Torr, Vedaldi, 2019, arXiv 1805.08136
    Departures: penalty, scale and bias are learned in the paper and settings here.
    Defaults: scikit-learn's Ridge(fit_intercept=False).

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        penalty: weight of the squared norm of W, positive; to be chosen for the length of the features.
        scale: factor on the regression's output, positive.
        bias: added to every score.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: penalty or scale not positive, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.ridge(support, labels, query, ways=2).round(decimals=2)
    tensor([[[0.6100, 0.1400],
             [0.1500, 0.3400]]])
    """
    if penalty <= 0 or scale <= 0:
        raise ConfigError(f"head ridge: penalty and scale must be positive, got penalty={penalty} and scale={scale}")
    weights = ridge_weights(transformed(support, transform, base_mean), one_hot(labels, ways, support), penalty)
    return scale * (transformed(query, transform, base_mean) @ weights) + bias


def ridge_weights(x: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """The minimum W of ||x W - targets||^2 + penalty ||W||^2: (E, S, D) and (E, S, W) -> (E, D, W).

    Solved in the smaller of the two spaces; in float64, as a small penalty leaves the system badly conditioned.
    """
    wide, y = x.double(), targets.double()
    rows, dim = x.shape[1:]
    small = wide @ wide.mT if rows <= dim else wide.mT @ wide
    small.diagonal(dim1=-2, dim2=-1).add_(penalty)
    factor = torch.linalg.cholesky(small)
    if rows <= dim:
        return (wide.mT @ torch.cholesky_solve(y, factor)).to(x.dtype)
    return torch.cholesky_solve(wide.mT @ y, factor).to(x.dtype)
