"""Uniformity as a loss: everything together fills the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.sphere import log_mean_potential
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, dense_weights, distances, full_precision, prepare, unit


@OBJECTIVES.register("uniformity", takes="relation")
def uniformity(z: Tensor, relation: Relation | None = None, refs: Tensor | None = None, *, t: float = 2.0) -> Tensor:
    """Log of the mean of exp(-t ||u(z_i) - u(r_j)||^2) over pairs; 0 is collapsed, lower is better. Without a pair it is 0.

    Paper: Wang, Isola 2020, arXiv 2005.10242.

    Pairs are all that the relation says anything of, kin or not, with one weight; of `views` and of `labels` without gaps that is every
    pair of rows, as in the paper. As it is the logarithm of a mean and no mean, it has no form for each anchor.

    Args:
        z: anchors (A, D), scaled to unit length here; copies of a sample are rows like others.
        relation: of anchors and references; None = all pairs of rows.
        refs: (R, D) or (A, R, D), scaled to unit length here; None = `z`, of which no row makes a pair with itself.
        t: sharpness, above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.uniformity(z, kinshot.kin.labels(y)).item(), 3)
    -1.662
    """
    check_above("t", t)
    with full_precision(z):
        if relation is None:
            if z.dim() != 2 or len(z) == 0 or refs is not None:
                raise ConfigError(f"uniformity: expected embeddings (A, D), and a relation where there are refs, got {tuple(z.shape)}")
            rows = unit(z)
            return log_mean_potential(torch.pdist(rows), t) if len(z) > 1 else (rows * 0).sum()
        anchors, ((_, rows),) = prepare(z, relation, refs, normalize=True)
        like = anchors.new_zeros(relation.shape)
        said = (dense_weights(relation.positive, like) > 0) | (dense_weights(relation.negative, like) > 0)
        if refs is not None:
            return log_mean_potential(distances(anchors, rows), t, said)
        i, j = torch.triu_indices(len(z), len(z), 1, device=z.device)
        return log_mean_potential(torch.pdist(rows), t, said[i, j] | said[j, i]) if len(z) > 1 else (rows * 0).sum()
