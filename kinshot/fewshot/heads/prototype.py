"""Nearest class mean: ProtoNet's classifier and SimpleShot, told apart by distance and feature transform."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.fewshot import HEADS
from kinshot.fewshot.transforms import class_means, query_similarity
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("prototype", scores={"distance": {"cosine": "similarities", "euclidean": "similarities", "squared": "logits"}})
def prototype(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    distance: Literal["cosine", "euclidean", "squared"] = "cosine",
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Nearest class mean of transformed support features (ProtoNet, SimpleShot); inductive.

    With t the transform and p_c the mean of t(z) over the support rows of class c, the score of query q is

    * `cosine`: <u(t(q)), u(p_c)>, so the mean is brought back to unit length;
    * `euclidean`: -||t(q) - p_c||, the mean as it is;
    * `squared`: -||t(q) - p_c||^2, the mean as it is.

    ProtoNet's logits are `distance=squared, transform=none`. SimpleShot's CL2N is `distance=euclidean, transform=cl2n`;
    some libraries use the cosine under that name, which predicts differently. Plain and squared distance always
    predict the same class. The default equals weight imprinting up to its scale.

    Paper: Snell, Swersky, Zemel, 2017, arXiv 1703.05175; Wang, Chao, Weinberger, van der Maaten, 2019, arXiv 1911.04623
    Defaults: easyfsl's SimpleShot as its benchmark runs it.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        distance: how a query is compared with a class mean.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.prototype(support, labels, query, ways=2).round(decimals=2)  # cosine to the mean of each class
    tensor([[[0.9800, 0.4200],
             [0.3900, 0.9900]]])
    """
    means = class_means(transformed(support, transform, base_mean), labels, ways)
    return query_similarity(query, means, distance, transform, base_mean)
