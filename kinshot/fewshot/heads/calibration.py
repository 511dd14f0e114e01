"""Distribution calibration: a few support features borrow the spread of similar base classes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.base_statistics import BaseStatistics
from kinshot.fewshot.logistic_regression import fit_logistic
from kinshot.fewshot.support_draws import keyed_normals, keyed_ranks
from kinshot.fewshot.transforms import one_hot, squared_distance

_CHUNK_BYTES = 64 << 20  # drawn samples held at once


@HEADS.register("distribution_calibration", scores="log_probabilities")
def distribution_calibration(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    power: float = 0.5,
    nearest: int = 2,
    alpha: float = 0.21,
    spread: Literal["elements", "diagonal"] = "elements",
    samples: int = 750,
    C: float = 1.0,
    max_iter: int = 1000,
    seed: int = 0,
    base: BaseStatistics | None = None,
) -> Tensor:
    """Logistic regression on samples from distributions calibrated by base classes (Free Lunch); inductive.

    Every feature goes through Tukey's transform x^power. For each support feature z, with the `nearest` base classes by
    Euclidean distance of their means: mu' = mean of their means and z, Sigma' = mean of their covariances + alpha; then
    samples / K draws from N(mu', Sigma') carry the label of z, K being the number of support features of its way.
    The regression is that of the head `logistic`, on support features and draws. With 0 samples it is on the support alone.

    The base statistics are taken as they are given: the released code computes them on features without Tukey's transform.

    Paper: Yang, Liu, Xu, 2021, arXiv 2101.06395
    Departures: a negative x (features not behind a ReLU) becomes -|x|^power, where the power of the paper does not exist.
    Defaults: the authors' code (ShuoYang-1998/Few_Shot_Distribution_Calibration).

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        power: exponent of Tukey's transform, positive; 1 leaves the features.
        nearest: base classes that calibrate a support feature, from 1 to their number.
        alpha: spread added to the covariance, at least 0.
        spread: alpha is added to every element of the covariance (elements; paper and released code) or to its diagonal.
        samples: draws for each way, at least 0.
        C: inverse of the regression's penalty, positive.
        max_iter: most iterations of the regression.
        seed: key of the draws.
        base: mean and covariance of every base class.

    Returns:
        Log-probabilities (E, Q, W) in the dtype of `query`.

    Raises:
        ConfigError: a setting out of its range, or no base statistics.
        DataError: a way without support, base statistics that do not fit or hold no covariances, or no convergence.

    >>> z, y = torch.tensor([[1.0, 0.1], [0.8, 0.1], [0.1, 0.8], [0.2, 1.0]]), torch.tensor([0, 0, 1, 1])
    >>> kinshot.heads.distribution_calibration(z[None], y[None], z[None], 2, base=kinshot.base_statistics(z, y)).argmax(-1)
    tensor([[0, 0, 1, 1]])
    """
    if base is None:
        raise ConfigError(
            "head distribution_calibration needs the statistics of the base classes and none were given: "
            "name the base split (--base on the command line, base= in Python)"
        )
    _check(base, support.shape[-1], power, nearest, alpha, samples, C, max_iter)
    z, hot = tukey(support.double(), power), one_hot(labels, ways, support.double())
    asked = tukey(query.double(), power)
    ranks = keyed_ranks(z, seed)
    held = z.shape[1] * max(1, samples // int(hot.sum(1).min())) * (nearest + 1) * z.shape[2] * z.element_size()
    scores = []
    for part in torch.arange(len(z), device=z.device).split(max(1, _CHUNK_BYTES // held)):
        drawn, weights = sample_calibrated(
            z[part], hot[part], ranks[part], base, nearest=nearest, alpha=alpha, spread=spread, samples=samples, seed=seed
        )
        x = torch.cat([z[part], drawn.flatten(1, 2)], 1)
        y = torch.cat([hot[part], hot[part].repeat_interleave(drawn.shape[2], 1)], 1)
        weight = torch.cat([weights.new_ones(z[part].shape[:2]), weights.flatten(1)], 1)
        found, intercepts = fit_logistic(x, y, C, max_iter=max_iter, weights=weight)
        scores.append((asked[part] @ found + intercepts.unsqueeze(1)).log_softmax(-1))
    return torch.cat(scores).to(query.dtype)


def tukey(z: Tensor, power: float) -> Tensor:
    """Tukey's ladder of powers, continued to negative numbers: sign(z) |z|^power."""
    return z.sign() * z.abs().pow(power)


def calibrated_means(z: Tensor, base: BaseStatistics, nearest: int) -> tuple[Tensor, Tensor]:
    """Mean of each row of (E, S, D) with its nearest base means: (E, S, D), and which those are, int64 (E, S, nearest)."""
    means = base.class_means.to(z)
    index = squared_distance(z, means.expand(len(z), -1, -1)).topk(nearest, dim=-1, largest=False).indices
    return (z + means[index].sum(2)) / (nearest + 1), index


def sample_calibrated(
    z: Tensor, hot: Tensor, ranks: Tensor, base: BaseStatistics, *, nearest: int, alpha: float, spread: str, samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draws from the calibrated normal distribution of every support row.

    Args:
        z: transformed support features, float64 (E, S, D).
        hot: indicators of their ways, (E, S, W).
        ranks: which block of draws belongs to each row, int64 (E, S).
        base: statistics of the base classes.
        nearest: base classes that calibrate a row.
        alpha: spread added to the covariance.
        spread: `elements` or `diagonal`.
        samples: draws for each way, shared by its rows (rounded down).
        seed: key of the draws.

    Returns:
        Draws (E, S, M, D), M for the way with the fewest rows, and the weight of each, 1 or (beyond a row's share) 0, (E, S, M).
    """
    rows, dim = z.shape[1:]
    share = samples // (hot @ hot.sum(1).unsqueeze(-1)).squeeze(-1).long()
    count = int(share.max())
    means, index = calibrated_means(z, base, nearest)
    factors = base.class_factors.to(z)
    normals = keyed_normals((rows, nearest + 1, count, dim), seed, "distribution calibration").to(z)
    drawn = means.unsqueeze(2).repeat(1, 1, count, 1)
    for j in range(nearest):
        # a sum of independent normals has the sum of their covariances: no factor of each Sigma' is needed
        drawn += normals[:, j][ranks] @ (factors[index[:, :, j]] / nearest**0.5)
    extra = normals[:, nearest][ranks]
    drawn += alpha**0.5 * (extra if spread == "diagonal" else extra[..., :1])
    return drawn, (torch.arange(count, device=z.device) < share.unsqueeze(-1)).to(z.dtype)


def _check(base: BaseStatistics, dim: int, power: float, nearest: int, alpha: float, samples: int, C: float, max_iter: int) -> None:
    if power <= 0 or alpha < 0 or samples < 0 or C <= 0 or max_iter < 1:
        raise ConfigError(
            "head distribution_calibration: power, C and max_iter must be positive, alpha and samples at least 0, "
            f"got power={power}, C={C}, max_iter={max_iter}, alpha={alpha}, samples={samples}"
        )
    classes, width = base.class_means.shape
    if not 1 <= nearest <= classes:
        raise ConfigError(f"head distribution_calibration: nearest must be from 1 to the number of base classes, {classes}, got {nearest}")
    if width != dim:
        raise DataError(f"the base statistics are {width} wide, the features {dim}: compute both with the same encoder")
    if base.class_covariances is None:
        raise DataError("head distribution_calibration needs class covariances: make them with base_statistics(..., covariances=True)")
