"""Uniformity of classes as a loss: the means of the batch's classes fill the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.sphere import log_mean_potential
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, classes_of, full_precision, unit


@OBJECTIVES.register("class_uniformity", takes="relation")
def class_uniformity(z: Tensor, relation: Relation, refs: None = None, *, t: float = 2.0) -> Tensor:
    """Uniformity of the class means u(mean of u(z_i) over the class), every class of the batch counted once. One class gives 0.

    Paper: Wang, Isola 2020, arXiv 2005.10242.
    Departure: the class level is ours.

    Args:
        z: (N, D), scaled to unit length here.
        relation: of the batch's rows, (N, N), whose kin make classes, see `common.classes_of`.
        refs: None: classes are those of the batch.
        t: sharpness, above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.class_uniformity(z, kinshot.kin.labels(y)).item(), 3)
    -4.0
    """
    check_above("t", t)
    y = classes_of("class_uniformity", z, relation, refs)
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
