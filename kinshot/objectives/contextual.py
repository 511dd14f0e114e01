"""Contextual similarity: two rows are alike as far as their neighborhoods overlap, and kin should be, others should not."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, check_at_least, full_precision, unit
from kinshot.objectives.margin_contrastive import margin_contrastive


@OBJECTIVES.register("contextual", takes="relation")
def contextual(
    z: Tensor,
    relation: Relation,
    refs: None = None,
    *,
    contextual_weight: float = 0.4,
    contrastive_weight: float = 0.5,
    regularizer_weight: float = 0.1,
    neighbors: int = 4,
    eps: float = 0.05,
    slope: float = 10.0,
    positive_margin: float = 0.75,
    negative_margin: float = 0.6,
    mean_similarity: float = 0.25,
) -> Tensor:
    """Three weighted terms: squared errors of contextual similarities, a contrastive loss of cosines, and of the mean cosine's distance.

    Paper: Liao, Tsiligkaridis, Kulis 2022, arXiv 2210.01908.

    With c from `contextual_similarity`: (sum over kin of (1 - c)^2 + sum over others of c^2) / B^2; the mean over kin that cost something
    of relu(m+ - s) plus the mean over such others of relu(s - m-); and (mean of all B^2 cosines - r)^2.

    The released code has two recipes that weigh them by one letter in opposite senses. Images of 256 pixels: contextual 0.4, regularizer
    0.1, contrastive the rest, 0.5: the defaults. Images of 224 pixels, which come to r = 0.3 and as many neighbors as a class has
    rows in the batch: contrastive 0.05 (CUB) or 0.2, contextual 0.95 or 0.8, and the regularizer beside them.

    Args:
        z: (B, D).
        relation: of the batch's rows, (B, B). Rows that it says nothing of are left out altogether; weights of 1 are the paper's,
            others weigh the pairs of the first two terms.
        refs: None: neighborhoods are those of the batch.
        contextual_weight: of the first term, at least 0.
        contrastive_weight: of the second, at least 0.
        regularizer_weight: of the third, at least 0.
        neighbors: how large a neighborhood is, the row itself counted, at least 2; no larger than the batch.
        eps: slack of the squared distance at which a neighborhood ends, at least 0.
        slope: gradient of the indicator of a neighbor, above 0.
        positive_margin: m+, above -1, 1 at most.
        negative_margin: m-, above -1, `positive_margin` at most.
        mean_similarity: r, above -1, 1 at most.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 1, 0, 1])
    >>> round(kinshot.objectives.contextual(z, kinshot.kin.labels(y), neighbors=2).item(), 3)
    0.679
    """
    _check(z, relation, refs)
    check_at_least(0, contextual_weight=contextual_weight, contrastive_weight=contrastive_weight, regularizer_weight=regularizer_weight)
    check_at_least(0, eps=eps)
    check_at_least(2, neighbors=neighbors)
    check_above("slope", slope)
    _check_cosines(positive_margin=positive_margin, negative_margin=negative_margin, mean_similarity=mean_similarity)
    with full_precision(z):
        rows, positive, negative = _known(unit(z), relation)
        if len(rows) == 0:
            return (unit(z) * 0).sum()
        cosine = rows @ rows.T
        alike = contextual_similarity(cosine, neighbors, eps=eps, slope=slope)
        context = (positive * (1 - alike).square() + negative * alike.square()).mean()
        kin = Relation(Mask(positive), Mask(negative), (len(rows), len(rows)))
        pairs = _contrast(rows, kin, positive_margin=positive_margin, negative_margin=negative_margin)
        spread = (cosine.mean() - mean_similarity).square()
        return contextual_weight * context + contrastive_weight * pairs + regularizer_weight * spread


# as the released code has it: the mean over kin that cost something plus that over such others
_contrast = partial(margin_contrastive, measure="similarity", sides="apart", reduction="valid")


def _check(z: Tensor, relation: Relation, refs: None) -> None:
    if z.dim() != 2 or relation.shape != (len(z), len(z)) or refs is not None:
        got = f"{tuple(z.shape)} and {relation.shape}{'' if refs is None else ' with references'}"
        raise ConfigError(f"contextual: expected rows (B, D) and the relation (B, B) of the batch alone, got {got}")


def _check_cosines(**given: float) -> None:
    for name, value in given.items():
        if not -1 < value <= 1:
            raise ConfigError(f"{name}: expected a cosine above -1, 1 at most, got {value}")


def _known(rows: Tensor, relation: Relation) -> tuple[Tensor, Tensor, Tensor]:
    """The rows that the relation says something of, with their positive and negative weights."""
    positive, negative = (part.to(rows.device, rows.dtype) for part in relation.dense())
    told = (positive > 0) | (negative > 0)
    known = told.any(dim=1) | told.any(dim=0)
    return rows[known], positive[known][:, known], negative[known][:, known]


def contextual_similarity(cosine: Tensor, neighbors: int, *, eps: float = 0.05, slope: float = 10.0) -> Tensor:
    """How far the neighborhoods of two rows overlap, 0 to 1, averaged over the closest that name each other: symmetric (B, B).

    With M the indicator of the `neighbors` nearest, the row itself counted: W = M (M M' / sum M + M~ M~' / sum M~) / 2, M~ = 1 - M; W
    is averaged over the rows of R = M2 M2', M2 the indicator of half as many nearest; the result is the mean of that and its transpose.
    A neighbor is whose squared distance is at most `eps` beyond that of the last one. Indicators are exact and have the gradient
    of a line of `slope`; what ends a neighborhood and the sums that divide the overlaps have none.

    Paper: Liao, Tsiligkaridis, Kulis 2022, arXiv 2210.01908.

    Args:
        cosine: of all pairs (B, B).
        neighbors: at least 2; B where that is less.
        eps: at least 0.
        slope: above 0.
    """
    nearness = -(2 - 2 * cosine).clamp(min=0)
    most = min(neighbors, len(cosine))
    last = nearness.detach().topk(most, dim=1).values
    near = _indicator(nearness + eps, last[:, -1:], slope)
    half = max(1, min(neighbors // 2, most))
    mutual = _indicator(nearness + eps, last[:, half - 1 : half], slope)
    overlap = (_overlap(near) + _overlap(1 - near)) / 2 * near
    mutual = mutual * mutual.T
    count = mutual.sum(dim=1, keepdim=True)
    # a row is near itself, but for rounding where there is no slack; no clamp, which would stop the gradient at 1
    averaged = (mutual @ overlap) / torch.where(count > 0, count, 1)
    return (averaged + averaged.T) / 2


def _indicator(value: Tensor, threshold: Tensor, slope: float) -> Tensor:
    """1 where the value is at least the threshold, else 0, with the gradient of slope * value."""
    line = slope * value
    return (value >= threshold).to(value.dtype) + (line - line.detach())


def _overlap(members: Tensor) -> Tensor:
    """Share of each row's members that another row has, too; 0 where there are none."""
    return (members @ members.T) / members.detach().sum(dim=1, keepdim=True).clamp(min=1)
