"""SupCon: InfoNCE with the members of a class, or any kin, as positives."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.constructors import across_views, labels, views
from kinshot.kin.relation import Relation
from kinshot.objectives.common import Reduction, check_choice
from kinshot.objectives.info_nce import relational_info_nce


def sup_con(
    z: Tensor,
    kin: Tensor | Relation | None = None,
    *,
    temperature: float = 0.1,
    base_temperature: float | None = None,
    contrast_mode: Literal["all", "one"] = "all",
    reduction: Reduction = "mean",
    normalize: bool = True,
    chunk: int | None = None,
) -> Tensor:
    """Supervised contrastive loss (L_out).

    Paper: Khosla et al. 2020, arXiv 2004.11362.

    The paper's code multiplies by temperature / 0.07 (`base_temperature=0.07`); here the default is no factor. Anchors without
    positives count as 0 in the mean, as there.

    Args:
        z: (N, D), or (B, V, D) with V views of each sample.
        kin: labels int64 (N,) or (B,), -1 = unknown; or a relation (N, N) or (B, B), may be asymmetric; None = views of a sample.
        temperature: divides every similarity; above 0.
        base_temperature: see above.
        contrast_mode: "all" views are anchors, or "one": the first view of each sample.
        reduction: over anchors.
        normalize: whether similarities are cosines.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    check_choice("contrast_mode", contrast_mode, ("all", "one"))
    if z.dim() not in (2, 3):
        raise ConfigError(f"sup_con: expected embeddings (N, D) or (B, V, D), got {tuple(z.shape)}")
    count, copies = (len(z), 1) if z.dim() == 2 else z.shape[:2]
    if kin is None:
        relation = views(torch.arange(count), copies).to(z.device)
    else:
        relation = kin if isinstance(kin, Relation) else labels(kin)
        if relation.shape != (count, count):
            raise ConfigError(f"sup_con: expected kinship of {count} samples, got {relation.shape}: one label or row for each sample")
        relation = relation if z.dim() == 2 else across_views(relation, copies)
    rows = z if z.dim() == 2 else z.transpose(0, 1).reshape(count * copies, -1)
    one = contrast_mode == "one"
    return relational_info_nce(
        rows[:count] if one else rows,
        relation.rows(slice(0, count)) if one else relation,
        rows if one else None,
        temperature=temperature,
        base_temperature=base_temperature,
        reduction=reduction,
        normalize=normalize,
        chunk=chunk,
    )
