"""Nearest support images: the strongest baseline that computes no class statistic."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS
from kinshot.fewshot.transforms import class_top_mean, query_similarity
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("nearest", scores="similarities")
def nearest(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    neighbors: int = 1,
    distance: Literal["cosine", "euclidean", "squared"] = "cosine",
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Nearest support image, or the mean similarity to each class's nearest few; inductive.

    score_c(q) = mean of the `neighbors` largest similarities between q and the support rows of class c (of all its
    rows where it has fewer). One neighbour is the 1-nearest-neighbour classifier. More than one is k nearest *of each
    class*, not a vote among the k nearest overall: with K images per class such a vote is mostly ties.

    Paper: Cover, Hart, 1967, IEEE Trans. Inf. Theory 13(1) (nearest neighbour)
    Defaults: scikit-learn's KNeighborsClassifier(n_neighbors=1, metric="cosine").

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        neighbors: how many of each class's nearest support images are averaged, at least 1.
        distance: similarity of a query and a support image.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: neighbors below 1, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.nearest(support, labels, query, ways=2).round(decimals=2)  # cosine to the nearest image of each class
    tensor([[[1.0000, 0.4200],
             [0.5000, 0.9900]]])
    """
    if neighbors < 1:
        raise ConfigError(f"head nearest: neighbors must be at least 1, got {neighbors}")
    support = transformed(support, transform, base_mean)
    pairs = query_similarity(query, support, distance, transform, base_mean)
    return class_top_mean(pairs, labels, ways, neighbors)
