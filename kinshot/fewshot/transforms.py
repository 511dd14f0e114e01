"""Feature-space arithmetic that the heads share: transforms, class means and similarities, batched over episodes.

Shapes: E episodes, S support rows, Q query rows, W ways, D features. Everything works in the dtype of its input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError

_EPS = 1e-12  # a zero vector stays zero instead of becoming NaN


def unit(z: Tensor) -> Tensor:
    """u(z) = z / ||z|| over the last dimension; a zero vector stays zero."""
    return torch.nn.functional.normalize(z, dim=-1, eps=_EPS)


def transform(z: Tensor, kind: str, base_mean: Tensor | None = None) -> Tensor:
    """Features as a head sees them.

    Paper: Wang, Chao, Weinberger, van der Maaten, 2019, arXiv 1911.04623 (SimpleShot)

    Args:
        z: features (..., D).
        kind: `none` leaves them, `l2n` gives u(z), `cl2n` gives u(z - base_mean).
        base_mean: mean feature of the base classes, (D,); read by `cl2n` only.

    Raises:
        ConfigError: unknown kind, or `cl2n` without a base mean.
        DataError: the base mean has another width than the features.
    """
    if kind == "none":
        return z
    if kind == "l2n":
        return unit(z)
    if kind != "cl2n":
        raise ConfigError(f"unknown feature transform {kind!r}: use none, l2n or cl2n")
    return unit(z - checked_base_mean(z, base_mean))


def checked_base_mean(z: Tensor, base_mean: Tensor | None) -> Tensor:
    """The base mean in the precision of the features. Raises as `transform` does."""
    if base_mean is None:
        raise ConfigError(
            "transform=cl2n centres features on the mean of the base classes, and none was given: "
            "name the base split (--base on the command line, base_mean= in Python), or use transform=l2n"
        )
    if base_mean.shape != z.shape[-1:]:
        raise DataError(
            f"the base mean has shape {tuple(base_mean.shape)}, the features are {z.shape[-1]} wide: compute both with the same encoder"
        )
    return base_mean.to(z)


def one_hot(labels: Tensor, ways: int, like: Tensor) -> Tensor:
    """Episode labels (E, S) as indicators (E, S, W) in the dtype of `like`.

    Raises:
        DataError: a way of some episode has no support row.
    """
    hot = (labels.unsqueeze(-1) == torch.arange(ways, device=labels.device)).to(like.dtype)
    empty = hot.sum(1) == 0
    if bool(empty.any()):
        episode, way = empty.nonzero()[0].tolist()
        raise DataError(f"way {way} of episode {episode} has no support image: every way in 0..{ways - 1} needs at least one")
    return hot


def class_means(z: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Mean support feature of every way, (E, S, D) -> (E, W, D); rows in any order, ways may differ in count."""
    hot = one_hot(labels, ways, z)
    return hot.mT @ z / hot.sum(1).unsqueeze(-1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of all pairs, (E, A, D) and (E, B, D) -> (E, A, B)."""
    # dividing the product by the norm of `a` saves a normalised copy of the large operand
    return a @ unit(b).mT / torch.linalg.vector_norm(a, dim=-1, keepdim=True).clamp_min(_EPS)


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance of all pairs, (E, A, D) and (E, B, D) -> (E, A, B).

    Both are first moved by the mean of `b`: the distance does not change, and far less is lost to rounding
    when features share a large offset.
    """
    centre = b.mean(1, keepdim=True)
    a, b = a - centre, b - centre
    norms = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    return torch.baddbmm(norms, a, b.mT, alpha=-2).clamp_min(0)


def similarity(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """Scores of all pairs, larger is closer: cosine, -||a - b|| (`euclidean`) or -||a - b||^2 (`squared`); (E, A, B)."""
    if distance == "cosine":
        return cosine(a, b)
    if distance == "euclidean":
        return -squared_distance(a, b).sqrt()
    if distance == "squared":
        return -squared_distance(a, b)
    raise ConfigError(f"unknown distance {distance!r}: use cosine, euclidean or squared")


def query_similarity(query: Tensor, rows: Tensor, distance: str, kind: str, base_mean: Tensor | None = None) -> Tensor:
    """`similarity` of the transformed queries (E, Q, D) to rows (E, B, D) that are transformed already; (E, Q, B)."""
    if distance == "cosine":
        # the cosine ignores a query's length: normalising it first would only copy the largest tensor
        return cosine(transform(query, "none" if kind == "l2n" else kind, base_mean), rows)
    if kind not in ("l2n", "cl2n") or distance not in ("euclidean", "squared"):
        return similarity(transform(query, kind, base_mean), rows, distance)
    if kind == "cl2n":
        query = query - checked_base_mean(query, base_mean)
    squared = unit_squared_distance(query, rows)
    return -(squared.sqrt() if distance == "euclidean" else squared)


def unit_squared_distance(query: Tensor, rows: Tensor) -> Tensor:
    """||u(q) - r||^2 of all pairs, (E, Q, D) and (E, B, D) -> (E, Q, B), without a copy of the queries, the largest tensor.

    With m the mean row it is ||u(q) - m||^2 - 2 <u(q) - m, r - m> + ||r - m||^2: what tells the rows apart is computed from their
    differences, and loses as little to rounding as in `squared_distance`.
    """
    centre = rows.mean(1, keepdim=True)
    shifted = rows - centre
    norm = torch.linalg.vector_norm(query, dim=-1).unsqueeze(1)
    divisor = norm.clamp_min(_EPS)
    inner = (torch.cat([shifted, centre], dim=1) @ query.mT).div_(divisor)
    common = (norm / divisor).square() - 2 * inner[:, -1:] + centre.square().sum(-1, keepdim=True)
    own = (shifted * (shifted + 2 * centre)).sum(-1, keepdim=True)
    return inner[:, :-1].mul(-2).add_(common).add_(own).clamp_min_(0).mT


def class_top_mean(pairs: Tensor, labels: Tensor, ways: int, count: int) -> Tensor:
    """Mean of the `count` largest similarities to each way's support rows (all of them where a way has fewer).

    Args:
        pairs: similarity of every query to every support row, (E, Q, S).
        labels: way of each support row, int64 (E, S).
        ways: W.
        count: how many are averaged; 1 is the maximum.

    Returns:
        (E, Q, W).
    """
    rows, present = _rows_by_way(labels, ways)
    episodes, queries, _ = pairs.shape
    index = rows.reshape(episodes, 1, -1).expand(-1, queries, -1)
    grouped = pairs.gather(2, index).view(episodes, queries, ways, -1)
    grouped = grouped.masked_fill(~present.unsqueeze(1), -torch.inf)
    if count == 1:
        return grouped.amax(-1)
    top = grouped.topk(min(count, grouped.shape[-1]), dim=-1).values
    taken = torch.isfinite(top)
    return top.masked_fill(~taken, 0).sum(-1) / taken.sum(-1)


def _rows_by_way(labels: Tensor, ways: int) -> tuple[Tensor, Tensor]:
    """Support rows of each way, padded to the largest way: rows (E, W, M) and whether each is real, bool (E, W, M)."""
    counts = one_hot(labels, ways, torch.empty(0, dtype=torch.float64)).sum(1).long()
    order = labels.argsort(dim=1, stable=True)
    slot = torch.arange(int(counts.max()), device=labels.device)
    present = slot < counts.unsqueeze(-1)
    start = (counts.cumsum(1) - counts).unsqueeze(-1)
    place = torch.where(present, start + slot, 0)
    return order.gather(1, place.flatten(1)).view_as(place), present
