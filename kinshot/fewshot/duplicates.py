"""Copies of support images among the queries: different indices, same picture, an answer given away."""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import DataError
from kinshot.fewshot.episodes import Episodes
from kinshot.fewshot.groups import EpisodeGroups, grouped


def duplicate_queries(episodes: Episodes, hashes: np.ndarray) -> np.ndarray:
    """Which queries have the content of a support image of their episode: bool (E, Q).

    Args:
        episodes: index tensors.
        hashes: what tells the content of every image, (N,), of any type that can be sorted; `Source.digests` makes one.

    Raises:
        DataError: not one hash for each image that the episodes use.
    """
    high = max(int(episodes.support.max()), int(episodes.query.max()))
    if hashes.ndim != 1 or high >= len(hashes):
        raise DataError(
            f"the episodes use images up to {high}, got hashes of shape {hashes.shape}: give one hash for each image of the data"
        )
    names, content = np.unique(hashes, return_inverse=True)
    base = np.arange(len(episodes))[:, None] * len(names)  # contents of different episodes never meet
    return np.isin(base + content[episodes.query.numpy()], base + content[episodes.support.numpy()])


def check_duplicates(episodes: Episodes | EpisodeGroups, hashes: np.ndarray) -> None:
    """Refuse episodes that ask for a copy of a support image.

    Raises:
        DataError: naming the number of such queries and the first of them, or as `duplicate_queries`.
    """
    groups = grouped(episodes)
    copies = groups.in_order([duplicate_queries(group, hashes).sum(axis=1) for group in groups.groups])
    if not copies.any():
        return
    first = int(np.flatnonzero(copies)[0])
    query, twin = _first_pair(groups, first, hashes)
    raise DataError(
        f"{int(copies.sum())} queries in {np.count_nonzero(copies)} of {len(groups)} episodes are copies of a support image; the first is "
        f"image {query} in episode {first}, equal to image {twin}: leave one of each pair out of the data, or "
        "accept an answer that is given away with --duplicates allow"
    )


def _first_pair(groups: EpisodeGroups, number: int, hashes: np.ndarray) -> tuple[int, int]:
    """The first query of an episode that is a copy, and the support image that it is a copy of."""
    pairs = (
        (query, shown)
        for group, numbers in zip(groups.groups, groups.numbers, strict=True)
        for row in (numbers == number).nonzero().flatten().tolist()
        for query in group.query[row].tolist()
        for shown in group.support[row].tolist()
        if hashes[query] == hashes[shown]
    )
    return next(pairs)
