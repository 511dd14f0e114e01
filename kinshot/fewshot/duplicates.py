"""Copies of support images among the queries: different indices, same picture, an answer given away."""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import DataError
from kinshot.fewshot.episodes import Episodes


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


def check_duplicates(episodes: Episodes, hashes: np.ndarray) -> None:
    """Refuse episodes that ask for a copy of a support image.

    Raises:
        DataError: naming the number of such queries and the first of them, or as `duplicate_queries`.
    """
    found = duplicate_queries(episodes, hashes)
    if not found.any():
        return
    e, i = np.argwhere(found)[0]
    query = int(episodes.query[e, i])
    twin = next(s for s in episodes.support[e].tolist() if hashes[s] == hashes[query])
    raise DataError(
        f"{int(found.sum())} queries in {int(found.any(1).sum())} of {len(episodes)} episodes are copies of a support image; the first is "
        f"image {query} in episode {e}, equal to image {twin}: leave one of each pair out of the data, or "
        "accept an answer that is given away with --duplicates allow"
    )
