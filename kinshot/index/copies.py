"""Near duplicates: every pair of rows whose cosine reaches a threshold, and the clusters that such pairs make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.index.nearest import Shelves

THRESHOLD = 0.9
_FIRST, _MOST = 8, 1024
"""Neighbours that are asked for at first, and at most: a photograph has no thousand near duplicates."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows, the lower number first, sorted.

    Attributes:
        rows: int64 (P, 2).
        cosine: float32 (P,).
        nearest: cosine of each row to its nearest other, float32 (N,).
    """

    rows: np.ndarray
    cosine: np.ndarray
    nearest: np.ndarray


def pairs_above(shelves: Shelves, threshold: float) -> Pairs:
    """Every pair of different rows with a cosine of at least `threshold`, exactly.

    Rows whose furthest neighbour is still that near are asked again for more. Raises ConfigError where a row has more than a thousand.
    """
    if shelves.count < 2:
        return Pairs(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32), np.empty(0, dtype=np.float32))
    left, k, found, nearest = torch.arange(shelves.count), min(_FIRST, shelves.count - 1), [], np.empty(0)
    while len(left):
        ranked = shelves.others(left, k)
        nearest = nearest if len(nearest) else ranked.value[:, 0].numpy()
        near = ranked.value >= threshold
        full = near[:, -1] if k < shelves.count - 1 else torch.zeros(len(left), dtype=torch.bool)
        row, place = (near & ~full[:, None]).nonzero(as_tuple=True)
        found.append((left[row], ranked.index[row, place], ranked.value[row, place]))
        if bool(full.any()) and k >= _MOST:
            raise ConfigError(
                f"{int(full.sum())} images have more than {_MOST} others with a cosine of at least {threshold:g}, which with this encoder "
                f"is no sign of a copy (half of all images have another at {np.median(nearest):.4f} or nearer): raise --threshold"
            )
        left, k = left[full], min(2 * k, shelves.count - 1, _MOST)
    first, second, cosine = (torch.cat(part).numpy() for part in zip(*found, strict=True))
    keep = first < second  # the other one has found it too
    order = np.lexsort((second[keep], first[keep]))
    return Pairs(np.stack([first[keep], second[keep]], 1)[order], cosine[keep][order], nearest)


def clusters(pairs: np.ndarray) -> list[list[int]]:
    """Rows that are linked by pairs (P, 2), directly or through others; each cluster ascending, in the order of their first rows."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    members = np.unique(pairs)
    if not len(members):
        return []
    place = np.searchsorted(members, pairs)
    links = coo_matrix((np.ones(len(pairs), dtype=np.int8), (place[:, 0], place[:, 1])), shape=(len(members), len(members)))
    label = connected_components(links, directed=False)[1]
    found: dict[int, list[int]] = {}
    for row, of in zip(members.tolist(), label.tolist(), strict=True):
        found.setdefault(of, []).append(row)
    return sorted(found.values())
