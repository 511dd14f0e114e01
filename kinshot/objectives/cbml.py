"""CBML: pulls and pushes of mined pairs by a posterior of similarities, and the spread of an anchor's others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.miners.multi_similarity import informative
from kinshot.kin.relation import Relation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import (
    Sets,
    by_chunks,
    check_above,
    check_at_least,
    check_choice,
    full_precision,
    log_sum,
    prepare,
    products,
    reduce,
    side_by_side,
)
from kinshot.objectives.multi_similarity import identical


@OBJECTIVES.register("cbml", takes="relation")
def cbml(
    z: Tensor,
    relation: Relation | Sequence[Relation],
    refs: Tensor | Sequence[Tensor] | None = None,
    *,
    link: Literal["log", "sqrt", "constant"] = "log",
    positive_center: float = 0.5,
    positive_width: float = 0.5,
    negative_center: float = 1.0,
    negative_width: float = 0.01,
    mining_margin: float | None = 0.1,
    hardest: int | None = None,
    drop_identical: bool = True,
    variance: Literal["sum", "mean"] = "sum",
    variance_weight: float = 1.0,
    balance: float = 0.1,
    reduction: Literal["mean", "valid", "sum", "none", "each"] = "mean",
    normalize: bool | Literal["anchors"] = True,
    chunk: int | None = None,
) -> Tensor:
    """Mean over anchors of g(sum_P exp(-(s - a+) / b+)) + g(sum_N exp((s - a-) / b-)) + v sum_N (s - m)^2, g one of three links.

    Paper: Kan, He, Cen, Li, Mladenovic, He 2022, arXiv 2210.04402.

    Links: `log` log(1 + f), `sqrt` sqrt(1 + f), `constant` 1 + f / 4. Pairs are mined as those of `multi_similarity`, or the hardest
    others are kept. The last term is the metric variance: of all others of the anchor, mined or not, about m = h mean(kin) + (1 - h)
    mean(others); as in the released code a sum, which grows with the batch. An anchor that keeps no kin or no others costs nothing.
    Weights of the relation multiply the exponentials and weigh means and the variance.

    Args:
        z: anchors (A, D).
        relation: of anchors and references, or one for each set of references; mining sees all sets.
        refs: (R, D), (A, R, D), or one such for each relation; None = `z`.
        link: g.
        positive_center: a+, above -1.
        positive_width: b+, above 0.
        negative_center: a-, above -1.
        negative_width: b-, above 0.
        mining_margin: slack of both comparisons, at least 0; None = no mining.
        hardest: how many of the most similar others are kept beside mining (ties all stay), at least 1; None = all. The released code's
            mode without adaptive mining is `mining_margin=None` with 100.
        drop_identical: whether kin of similarity 1 - 1e-5 or more are left out, as in the released code.
        variance: "sum" over the others, or their "mean", for terms whose size does not depend on the batch.
        variance_weight: v, at least 0.
        balance: h, share of the kin in m, from 0 to 1.
        reduction: "mean" over all anchors, as the released code, "valid" over those that count, "sum", "none": (A,), or "each", see
            `common.reduce`.
        normalize: whether similarities are cosines; "anchors" takes the references as they are. Only the logarithm stands dot products.
        chunk: anchors at a time.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]), torch.tensor([0, 1, 0, 1])
    >>> round(kinshot.objectives.cbml(z, kinshot.kin.labels(y)).item(), 3)
    1.818
    """
    _check(
        link, (positive_center, negative_center), (positive_width, negative_width), mining_margin, hardest, dot_products=normalize is False
    )
    check_choice("variance", variance, ("sum", "mean"))
    _check_variance(variance_weight, balance)

    def some(rows: Tensor, sets: Sets) -> tuple[Tensor, Tensor]:
        s, positive, negative = side_by_side(rows, sets, products)
        positive = positive * ~identical(s) if drop_identical else positive
        kin, others = _mined(s.detach(), positive > 0, negative > 0, mining_margin, hardest)
        pull = log_sum((positive_center - s) / positive_width, positive * kin)
        push = log_sum((s - negative_center) / negative_width, negative * others)
        spread = _variance(s, positive, negative, balance, mean=variance == "mean")
        return _LINKS[link](pull) + _LINKS[link](push) + variance_weight * spread, kin.any(dim=1) & others.any(dim=1)

    with full_precision(z):
        anchors, sets = prepare(z, relation, refs, normalize)
        losses, valid = by_chunks(some, anchors, sets, chunk)
        return reduce(losses, valid, reduction)


def _check(
    link: str,
    centers: tuple[float, float],
    widths: tuple[float, float],
    mining_margin: float | None,
    hardest: int | None,
    *,
    dot_products: bool,
) -> None:
    check_choice("link", link, ("log", "sqrt", "constant"))
    for name, center, width in zip(("positive", "negative"), centers, widths, strict=True):
        check_above(f"{name}_center", center, -1)
        check_above(f"{name}_width", width)
    if mining_margin is not None:
        check_at_least(0, mining_margin=mining_margin)
    if hardest is not None and hardest < 1:
        raise ConfigError(f"hardest: expected at least 1, or None for all others, got {hardest}")
    if dot_products and link != "log":
        raise ConfigError(f"link: exponentials of dot products overflow in {link}, got normalize=False: leave it on, or take link=log")


def _check_variance(weight: float, balance: float) -> None:
    check_at_least(0, variance_weight=weight)
    if not 0 <= balance <= 1:
        raise ConfigError(f"balance: expected a share from 0 to 1, got {balance}")


def _mined(s: Tensor, kin: Tensor, others: Tensor, margin: float | None, hardest: int | None) -> tuple[Tensor, Tensor]:
    """Which kin and others (A, R) are kept."""
    if margin is not None:
        kin, others = informative(s, kin, others, margin)
    return kin, others if hardest is None else others & _most(s, others, hardest)


def _log(f: Tensor) -> Tensor:
    return torch.logaddexp(f, torch.zeros_like(f))


# of log f
_LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "log": _log,
    "sqrt": lambda f: (_log(f) / 2).exp(),
    "constant": lambda f: 1 + f.exp() / 4,
}


def _most(similarity: Tensor, among: Tensor, count: int) -> Tensor:
    """Which of each row's columns are as similar as the `count`-th most similar of some: bool (A, R)."""
    count = min(count, similarity.shape[1])
    if count == 0:
        return among
    return similarity >= similarity.masked_fill(~among, -torch.inf).topk(count, dim=1).values[:, -1:]


def _variance(s: Tensor, positive: Tensor, negative: Tensor, balance: float, *, mean: bool) -> Tensor:
    """Squared distances (A,) of the others' similarities from a point between both means."""
    masses = [torch.where(w.sum(dim=1) > 0, w.sum(dim=1), 1) for w in (positive, negative)]
    centers = [(s * w).sum(dim=1) / mass for w, mass in zip((positive, negative), masses, strict=True)]
    about = balance * centers[0] + (1 - balance) * centers[1]
    total = (negative * (s - about.unsqueeze(1)).square()).sum(dim=1)
    return total / masses[1] if mean else total
