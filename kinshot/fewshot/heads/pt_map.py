"""PT-MAP: power-transformed features, and queries transported to class rows that move towards them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS
from kinshot.fewshot.checks import not_negative, positive
from kinshot.fewshot.span import Span, weighted_means
from kinshot.fewshot.transforms import class_means, one_hot
from kinshot.fewshot.transforms import transform as transformed
from kinshot.fewshot.transport import balanced_plan


@HEADS.register("pt_map", scores="probabilities")
@torch.no_grad()
def pt_map(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    balanced_prior: bool = False,
    power: float = 0.5,
    centre: Literal["sets", "none"] = "sets",
    lam: float = 10.0,
    steps: int = 20,
    rate: float = 0.2,
    tolerance: float = 1e-6,
    transform: Literal["none", "l2n", "cl2n"] = "none",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Class rows drawn towards the queries that optimal transport assigns to them (PT-MAP); transductive.

    Features z become (max(z, 0) + 1e-6)^power. With `centre=sets` they are then brought to unit length, support and
    query set each lose their mean, and again to unit length. Rows p start at the class means and `steps` times move by
    `rate` towards the means of their support rows and of the queries weighted with the plan P. P is proportional to
    exp(-lambda ||q - p||^2) with each query's row at sum 1. With `balanced_prior` each class's column is held at the
    sum Q / W, which is the published method and *tells the head that every class has equally many queries*; without
    it P is the softmax, whose columns sum to whatever the queries say.

    Paper: Hu, Gripon, Pateux, 2020, arXiv 2006.03806
    Departures: the paper's column constraint is off unless asked for. Negative features count as 0 (the paper's are
    never negative). The QR reduction is left out: it only changes the axes, and here an iteration uses inner products
    alone. The plan is found by Newton's method on its dual (`kinshot.fewshot.transport`), to `tolerance`; public code
    stops Sinkhorn's rounds after 1000. Counts that ways do not divide use Q / W, where easyfsl rounds down.
    easyfsl's head: transform=l2n, centre=none, and in its benchmark steps=30, rate=0.3.
    Defaults: the authors' code (yhu01/PT-MAP), but for `balanced_prior`: that knowledge is only given when asked for.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        balanced_prior: hold every class's share of the queries at Q / W.
        power: exponent of the power transform, positive.
        centre: subtract each set's own mean and normalise, before and after (sets), or neither (none).
        lam: lambda, how sharply distances decide, positive.
        steps: how often rows move; 0 scores by the class means.
        rate: how far towards the new means a row moves, above 0 and at most 1.
        tolerance: largest relative error of a column sum, positive; read with `balanced_prior` only.
        transform: what is done to every feature before the power transform; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        The plan P (E, Q, W); each row sums to 1.

    Raises:
        ConfigError: a number outside its range, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> kinshot.heads.pt_map(torch.eye(2)[None], torch.tensor([[0, 1]]), torch.tensor([[[0.9, 0.3]]]), ways=2).argmax(-1)
    tensor([[0]])
    """
    positive("pt_map", power=power, lam=lam, rate=rate, tolerance=tolerance)
    not_negative("pt_map", steps=steps)
    if rate > 1:
        raise ConfigError(f"head pt_map: rate must be at most 1, got {rate}: a row may not move past the means it is drawn to")
    support, query = (_powered(transformed(z, transform, base_mean), power, centre) for z in (support, query))
    counts = one_hot(labels, ways, support).sum(1).unsqueeze(-1)
    span = Span.of(class_means(support, labels, ways), query, centre=centre == "none")
    rows = span.start()
    offsets = torch.zeros(*rows.share.shape[:2], dtype=torch.float64, device=query.device)
    for step in range(steps + 1):
        scores = span.distances(rows).mul_(-lam)
        if balanced_prior:
            plan, offsets = balanced_plan(scores, offsets, tolerance)
        else:
            plan = scores.softmax(1)
        if step < steps:
            rows = rows.toward(weighted_means(counts, plan), rate)
    return plan.mT


def _powered(z: Tensor, power: float, centre: str) -> Tensor:
    """One set of features (E, N, D) as PT-MAP sees them."""
    z = z.clamp_min(0).add_(1e-6).pow_(power)
    if centre == "none":
        return z
    _to_unit_(z)
    return _to_unit_(z.sub_(z.mean(1, keepdim=True)))


def _to_unit_(z: Tensor) -> Tensor:
    """`transforms.unit` in place."""
    return z.div_(torch.linalg.vector_norm(z, dim=-1, keepdim=True).clamp_min_(1e-12))
