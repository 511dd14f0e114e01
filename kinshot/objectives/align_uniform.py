"""Alignment within classes and uniformity as losses: kin lie close, everything together fills the sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.sphere import log_mean_potential, mean_power
from kinshot.kin.constructors import labels
from kinshot.kin.relation import Relation
from kinshot.objectives.common import check_above, dense_weights, full_precision, unit


def alignment(z: Tensor, kin: Tensor | Relation, *, alpha: float = 2.0) -> Tensor:
    """Mean of ||u(z_i) - u(z_j)||^alpha over all pairs of kin; 0 is perfect. Without kin it is 0 and has gradient 0.

    Paper: Wang, Isola 2020, arXiv 2005.10242.
    Departure: there kin are the two views of a sample; here any relation, or the members of a class. Every pair counts alike,
    so a class counts by the number of its pairs.

    Args:
        z: (N, D), scaled to unit length here.
        kin: labels int64 (N,), -1 = unknown and kin to nobody; or a relation (N, N), whose positive weights weigh the mean.
        alpha: exponent, above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    _check_rows("alignment", z)
    check_above("alpha", alpha)
    relation = kin if isinstance(kin, Relation) else labels(kin)
    if relation.shape != (len(z), len(z)):
        raise ConfigError(f"alignment: expected kinship of {len(z)} rows, got {relation.shape}: one label or row for each")
    with full_precision(z):
        rows = unit(z)
        weights = dense_weights(relation.positive, rows.new_zeros(relation.shape)).to(rows.dtype)
        i, j = torch.triu_indices(len(z), len(z), 1, device=z.device)
        # each pair's distance once: many times faster than the whole matrix
        return mean_power(torch.pdist(rows), alpha, weights[i, j] + weights[j, i])


def uniformity(z: Tensor, *, t: float = 2.0) -> Tensor:
    """Log of the mean of exp(-t ||u(z_i) - u(z_j)||^2) over all pairs of rows; 0 is collapsed, lower is better. One row gives 0.

    Paper: Wang, Isola 2020, arXiv 2005.10242.

    Args:
        z: (N, D), scaled to unit length here; copies of a sample are rows like others.
        t: sharpness, above 0.

    Raises:
        ConfigError: a setting out of range, or not a matrix.
    """
    _check_rows("uniformity", z)
    check_above("t", t)
    with full_precision(z):
        rows = unit(z)
        return log_mean_potential(torch.pdist(rows), t) if len(z) > 1 else (rows * 0).sum()


def class_uniformity(z: Tensor, y: Tensor, *, t: float = 2.0) -> Tensor:
    """Uniformity of the class means u(mean of u(z_i) over the class), every class of the batch counted once. One class gives 0.

    Paper: Wang, Isola 2020, arXiv 2005.10242.
    Departure: the class level is ours.

    Args:
        z: (N, D), scaled to unit length here.
        y: int64 (N,), -1 = unknown, in no class.
        t: sharpness, above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    _check_rows("class_uniformity", z)
    check_above("t", t)
    if y.shape != z.shape[:1]:
        raise ConfigError(f"class_uniformity: expected a label for each of {len(z)} rows, got {tuple(y.shape)}")
    with full_precision(z):
        rows = unit(z)
        if len(z) < 2:
            return (rows * 0).sum()
        same = y.unsqueeze(1) == y
        # each row carries its class's mean and the first row of a class stands for it: no count of classes is read off a GPU
        first = (y >= 0) & ~same.tril(-1).any(1)
        means = unit(same.to(rows.dtype) @ rows)
        i, j = torch.triu_indices(len(z), len(z), 1, device=z.device)
        return log_mean_potential(torch.pdist(means), t, first[i] & first[j])


def _check_rows(name: str, z: Tensor) -> None:
    if z.dim() != 2 or len(z) == 0:
        raise ConfigError(f"{name}: expected embeddings (N, D), got {tuple(z.shape)}")
