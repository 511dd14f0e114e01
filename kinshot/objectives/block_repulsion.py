"""Classes of the batch that repel each other as blocks: what NBC-Softmax adds to cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import at_least_float32, check_above, classes_of, full_precision, unit


@OBJECTIVES.register("block_repulsion", takes="relation")
def block_repulsion(z: Tensor, relation: Relation, refs: None = None, *, classes: int | None = None, scale: float = 0.2) -> Tensor:
    """Mean over present classes of log(sum_l exp(scale * cos(mu_k, mu_l)) + 1e-10), over `classes`; mu is a class's mean in the batch.

    Paper: Kulatilleke, Portmann, Chandra 2022, arXiv 2212.08184.

    NBC-Softmax is `cross_entropy` of the logits with weight 1 - rho and this of the embeddings with weight rho, 0.5 there: two terms.
    A class's similarity to itself counts as 0, so it adds exp(0) to the sum, as in the paper's code.

    Args:
        z: (N, D).
        relation: of the batch's rows, (N, N), whose kin make classes, see `common.classes_of`.
        refs: None: classes are those of the batch.
        classes: K, all classes, present or not, as in the paper; None = those that are present, so that the term's size does not
            shrink with the number of classes.
        scale: multiplies cosines (tau of the paper, which is not a temperature); above 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.block_repulsion(z, kinshot.kin.labels(y)).item(), 3)
    0.347
    """
    y = classes_of("block_repulsion", z, relation, refs)
    check_above("scale", scale)
    if classes is not None and classes < 1:
        raise ConfigError(f"classes: expected at least 1, got {classes}")
    with full_precision(z):
        rows, members = at_least_float32(z)[y >= 0], y[y >= 0]
        if len(rows) == 0:
            return z.sum() * 0
        present, block = torch.unique(members, return_inverse=True)
        # a mean has the direction of the sum
        centers = unit(rows.new_zeros(len(present), z.shape[1]).index_add(0, block, rows))
        alike = centers @ centers.T
        alike = alike.masked_fill(torch.eye(len(present), dtype=torch.bool, device=z.device), 0)
        return ((scale * alike).exp().sum(dim=1) + 1e-10).log().mean() / (len(present) if classes is None else classes)
