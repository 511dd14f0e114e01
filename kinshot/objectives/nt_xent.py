"""NT-Xent: the views of each image against all other views of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.info_nce import info_nce


@OBJECTIVES.register("nt_xent", takes="relation")
def nt_xent(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    temperature: float = 0.5,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = True,
    chunk: int | None = None,
) -> Tensor:
    """Normalised temperature-scaled cross-entropy: each view's kin against the views of all other images.

    Paper: Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709.

    It is `info_nce` with that paper's temperature for small images. Of the relation `views`, an anchor's positive is the other view of
    its image, its negatives are the 2B - 2 views of the others, and rows that show one image are kin.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references; of `views` it is the paper's loss.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        temperature: divides every similarity; above 0.
        reduction: "mean" over all anchors, "valid" over those that count, "sum", "none": (A,), or "each", see `common.reduce`.
        normalize: cosines of anchors and references; "anchors" takes the references as they are (unit rows); False dot products.
        chunk: anchors at a time, for less memory at the price of computing twice; the result is the same.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.nt_xent(z, kinshot.kin.labels(y)).item(), 3)
    0.43
    """
    return info_nce(z, relation, refs, temperature=temperature, reduction=reduction, normalize=normalize, chunk=chunk)
