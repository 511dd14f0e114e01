"""SupCon: InfoNCE with the members of a class, or any kin, as positives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.info_nce import info_nce


@OBJECTIVES.register("sup_con", takes="relation")
def sup_con(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    temperature: float = 0.1,
    base_temperature: float | None = None,
    form: Literal["out", "in"] = "out",
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = True,
    chunk: int | None = None,
) -> Tensor:
    """Supervised contrastive loss: every kin of an anchor against all that is kin to it or told apart from it.

    Paper: Khosla et al. 2020, arXiv 2004.11362.

    It is `info_nce` as that paper has it. Its code multiplies by temperature / 0.07 (`base_temperature=0.07`); here the default is no
    factor. Anchors without positives count as 0 in the mean, as there. With several views of a sample, `kin.constructors.across_views`
    carries a relation of samples over to them; the code's `contrast_mode="one"` is the first view's rows with all rows as `refs`.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references; of `labels` it is the paper's loss.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        temperature: divides every similarity; above 0.
        base_temperature: see above; above 0, or None = no factor.
        form: "out" averages logarithms over an anchor's kin (L_out, which the paper settles on), "in" takes the logarithm of their mean.
        reduction: "mean" over all anchors, "valid" over those that count, "sum", "none": (A,), or "each", see `common.reduce`.
        normalize: cosines of anchors and references; "anchors" takes the references as they are (unit rows); False dot products.
        chunk: anchors at a time, for less memory at the price of computing twice; the result is the same.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 0, 1, 1])
    >>> round(kinshot.objectives.sup_con(z, kinshot.kin.labels(y)).item(), 3)
    0.064
    """
    return info_nce(
        z,
        relation,
        refs,
        temperature=temperature,
        base_temperature=base_temperature,
        form=form,
        reduction=reduction,
        normalize=normalize,
        chunk=chunk,
    )
