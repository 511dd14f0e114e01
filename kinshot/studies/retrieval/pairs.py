"""Verification on both sides: pairs of a query and a sample of the gallery, told apart by how near they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from kinshot.core.errors import DataError
from kinshot.core.rng import keyed_numpy
from kinshot.kin.neighbors.found import Kinship
from kinshot.kin.neighbors.ranking import Metric
from kinshot.kin.verification import auc, eer, tar_at_far
from kinshot.studies.retrieval.answers import Looked
from kinshot.studies.retrieval.sides import Sides

MOST = 1 << 20
"""Pairs of either sort that are compared, at most."""
_HELD = 1 << 22
"""Pairs that are looked at, and numbers of vectors that are held, at a time."""


def verification_names(far: Sequence[float]) -> list[str]:
    """What the figures of `verified` are called."""
    return [*(f"tar_at_far_{one:g}" for one in far), "eer", "auc"] if far else []


def verified(features: Looked, sides: Sides, far: Sequence[float], distance: Metric, seed: int) -> dict[str, float]:
    """TAR at each FAR, equal error rate and area under the curve, as shares.

    The pairs that the data itself lists for it, as far as both of one are among the samples; else all pairs that may meet, each once, and
    of more than `MOST` of either sort as many that are drawn.

    Raises DataError where there is no pair of either sort.
    """
    pairs, same = sides.listed or pairs_of(sides.kinship, len(sides.queries.rows), len(sides.gallery.rows), sides.itself, seed)
    scores = _scores(features, pairs, distance)
    found = {f"tar_at_far_{one:g}": tar_at_far(scores, same, one) for one in far}
    return {**found, "eer": eer(scores, same), "auc": auc(scores, same)}


def pairs_of(kin: Kinship, queries: int, references: int, itself: bool, seed: int, most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
    """Rows of queries and references, int64 (P, 2), and which pairs are kin, bool (P,); those among themselves once.

    Args:
        kin: who is kin, and who must not meet.
        queries: how many.
        references: how many.
        itself: whether they are the same samples.
        seed: key of the draw.
        most: pairs of either sort.
    """
    rng = keyed_numpy(seed, "retrieval/pairs", queries, references)
    counts = np.zeros(2, dtype=np.int64)  # strangers, kin
    for of in _looked(kin, queries, references, itself):
        counts += [len(pairs) for pairs in of]
    if not counts.all():
        raise DataError(f"verification needs pairs of kin and of strangers, got {counts[1]} and {counts[0]}: choose other samples")
    kept = [np.sort(rng.choice(count, most, replace=False)) if count > most else np.arange(count) for count in counts]
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    before = [0, 0]
    for of in _looked(kin, queries, references, itself):
        for sort, pairs in enumerate(of):
            low, high = np.searchsorted(kept[sort], [before[sort], before[sort] + len(pairs)])
            found[sort].append(pairs[kept[sort][low:high] - before[sort]])
            before[sort] += len(pairs)
    strangers, kins = (np.concatenate(parts) for parts in found)
    return np.concatenate([strangers, kins]), np.arange(len(strangers) + len(kins)) >= len(strangers)


def _looked(kin: Kinship, queries: int, references: int, itself: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of strangers and pairs of kin, int64 (p, 2) each, of some queries at a time."""
    step = max(1, _HELD // references)
    for start in range(0, queries, step):
        rows = slice(start, min(start + step, queries))
        index = np.broadcast_to(np.arange(references), (rows.stop - start, references))
        among, met = kin.among(rows, index), kin.kept(rows, index)
        allowed = np.ones_like(among) if met is None else met
        if itself:
            allowed = allowed & (index > np.arange(start, rows.stop)[:, None])
        first = np.array([start, 0])
        yield np.argwhere(allowed & ~among) + first, np.argwhere(allowed & among) + first


def _scores(features: Looked, pairs: np.ndarray, distance: Metric) -> np.ndarray:
    """How near each pair is, larger the nearer, float64 (P,)."""
    mine = features.queries
    theirs = mine if features.gallery is None else features.gallery
    if distance == "cosine":
        mine, theirs = (torch.nn.functional.normalize(side, dim=1) for side in (mine, theirs))
    found = []
    for part in torch.from_numpy(pairs).split(max(1, _HELD // mine.shape[1])):
        one, other = mine[part[:, 0]].double(), theirs[part[:, 1]].double()
        found.append((one * other).sum(1) if distance == "cosine" else -(one - other).norm(dim=1))
    return torch.cat(found).numpy()
