"""LaplacianShot: nearest class rows, and neighbouring queries prefer the same class."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.fewshot import HEADS
from kinshot.fewshot.checks import not_negative, positive
from kinshot.fewshot.rectify import rectified
from kinshot.fewshot.transforms import class_means
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("laplacian_shot", scores="probabilities")
def laplacian_shot(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    lam: float = 0.1,
    neighbors: int = 2,
    steps: int = 10,
    tolerance: float = 1e-6,
    rectify: Literal["across", "within", "none"] = "within",
    epsilon: float = 1.0,
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Nearest class rows, smoothed over each query's nearest queries (LaplacianShot); transductive.

    With a_qc = ||q - p_c||^2 and N(q) the nearest other queries of q, start from Y_q = softmax(-a_q) and repeat
    Y_q = softmax(-a_q + lambda * sum of Y_j over j in N(q)). An episode ends when its bound
    sum of Y (log Y + a - lambda sum Y_j) changes by at most `tolerance`, relatively, from the third step on.

    Paper: Ziko, Dolz, Granger, Ben Ayed, 2020, arXiv 2006.15486
    As in the public code, N is directed: j is a neighbour of q whether or not q is one of j. Their `knn=3` counts the
    query itself and is `neighbors=2` here. Queries at one and the same distance are all neighbours, so that the order
    of the queries never decides. Published settings: CL2N features, lambda chosen on validation classes (balanced
    ResNet-18: 0.7 for one shot; 0.3 on miniImageNet and 0.1 on tieredImageNet for five). The authors' code is
    lam=0.7:steps=20:rectify=across:epsilon=10:transform=cl2n; without its centring on the base classes (transform=l2n)
    that rectification is in no public code, and loses: rows that are shorter than the features win every query.
    Defaults: easyfsl's LaplacianShot as its benchmark runs it.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        lam: lambda, how much a neighbour's assignment counts, at least 0.
        neighbors: nearest other queries of each query, at least 1; all of them where there are fewer.
        steps: most updates; 0 scores by softmax(-a).
        tolerance: relative change of the bound at which an episode ends; 0 goes on until nothing changes.
        rectify: class rows of BD-CSPN, by its variant (across, within), or plain class means (none).
        epsilon: factor on the cosine in the rectification.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Assignments Y (E, Q, W); each row sums to 1.

    Raises:
        ConfigError: a number below its minimum, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.laplacian_shot(support, labels, query, ways=2, neighbors=1).argmax(-1)
    tensor([[0, 1]])
    """
    positive("laplacian_shot", neighbors=neighbors)
    not_negative("laplacian_shot", lam=lam, steps=steps, tolerance=tolerance, epsilon=epsilon)
    support, query = transformed(support, transform, base_mean), transformed(query, transform, base_mean)
    if rectify == "none":
        rows = class_means(support, labels, ways)
    else:
        rows = rectified(support, labels, query, ways, variant=rectify, epsilon=epsilon)
    # distances do not change with the origin; near the features' mean they lose less to rounding
    origin = query.mean(1, keepdim=True)
    rows, query = rows - origin, query - origin
    squares = torch.linalg.vector_norm(query, dim=-1).square().unsqueeze(1)
    unary = torch.baddbmm(rows.square().sum(-1, keepdim=True) + squares, rows, query.mT, alpha=-2).clamp_min_(0)
    if query.shape[1] == 1 or lam == 0 or steps == 0:
        return (-unary).softmax(1).mT
    return smoothed(unary, affinity(query, squares, neighbors).mul_(lam), steps, tolerance).mT


def affinity(query: Tensor, squares: Tensor, neighbors: int) -> Tensor:
    """Indicators (E, Q, Q) of each query's nearest other queries: entry (i, j) is 1 where j is a neighbour of i.

    Args:
        query: (E, Q, D), Q at least 2.
        squares: ||q||^2, (E, 1, Q).
        neighbors: all queries at one of so many smallest distinct distances are neighbours.
    """
    # q_i . q_j - ||q_j||^2 / 2 ranks the j of one i by their distance
    near = torch.baddbmm(squares, query, query.mT, beta=-0.5)
    near.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    # a few passes of a vectorised maximum are several times faster than a partial sort of each row
    bound = near.amax(-1, keepdim=True)
    for _ in range(min(neighbors, query.shape[1] - 1) - 1):
        bound = torch.where(near < bound, near, -torch.inf).amax(-1, keepdim=True)
    found = (near >= bound).to(query.dtype)
    found.diagonal(dim1=1, dim2=2).zero_()  # every query is at -inf or above: few distinct distances make all others neighbours
    return found


@torch.no_grad()
def smoothed(unary: Tensor, weight: Tensor, steps: int, tolerance: float) -> Tensor:
    """Bound updates of all episodes, each until its own bound is steady.

    Args:
        unary: a, (E, W, Q).
        weight: lambda times the affinity, (E, Q, Q).
        steps: most updates.
        tolerance: relative change of the bound at which an episode ends.

    Returns:
        Y (E, W, Q).
    """
    found, y = torch.empty_like(unary), torch.empty_like(unary)
    cost, pull = -unary, weight.mT
    drive = torch.baddbmm(cost, cost.softmax(1), pull)
    place = torch.arange(len(unary), device=unary.device)  # of each row of the tensors in work
    alive = torch.ones_like(place, dtype=torch.bool)  # whether its episode still goes on
    before = torch.full_like(unary[:, 0, 0], torch.inf)
    for step in range(steps):
        log_y = drive.log_softmax(1)
        y = log_y.exp()
        drive = torch.baddbmm(cost, y, pull)
        bound = log_y.sub_(drive).mul_(y).sum((1, 2))
        if step > 1:
            steady = alive & ((bound - before).abs() <= tolerance * before.abs())
            found[place[steady]] = y[steady]
            alive = alive & ~steady
            # moving the other episodes' matrices costs as much as a few updates: only when half have left
            if 2 * int(alive.sum()) <= len(alive):
                cost, pull, drive, bound, y, place = (t[alive] for t in (cost, pull, drive, bound, y, place))
                alive = alive[alive]
            if not len(alive):
                break
        before = bound
    found[place[alive]] = y[alive]
    return found
