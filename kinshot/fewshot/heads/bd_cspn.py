"""BD-CSPN: class means rectified by the queries that they attract."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.fewshot import HEADS
from kinshot.fewshot.checks import not_negative
from kinshot.fewshot.rectify import rectified, shifted
from kinshot.fewshot.transforms import similarity
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("bd_cspn", scores="similarities")
def bd_cspn(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    variant: Literal["within", "across"] = "within",
    epsilon: float = 1.0,
    shift_query: bool = False,
    distance: Literal["cosine", "euclidean", "squared"] = "cosine",
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Class means rectified with shifted, pseudo-labelled queries (BD-CSPN); transductive.

    Queries are moved by mean(support) - mean(query), labelled by their nearest class mean under the cosine, and
    taken into new class rows as `kinshot.fewshot.rectify.rectified` says. Scores are similarities to these rows.
    The shift takes both sets for mixtures of the classes in equal parts: where they are not, it moves queries wrongly.

    Paper: Liu, Song, Qin, 2020, arXiv 1911.10713
    Departures: every query takes part, as in the public code. `epsilon=10` is the paper's; `variant=across, epsilon=10,
    distance=euclidean, transform=cl2n` is the code of the realistic transductive benchmark (Veilleux et al., 2021), except
    that a class which no row chooses keeps its mean and is not dropped. Both score queries that are not shifted; the paper
    shifts them (`shift_query`).
    Defaults: easyfsl's BDCSPN as its benchmark runs it.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        variant: weights normalised among the members of a class, support rows in their own class (within), or over the
            classes, support rows labelled like queries (across).
        epsilon: factor on the cosine in the weights, at least 0.
        shift_query: whether the shift also applies to the queries that are scored.
        distance: how a query is compared with a rectified row.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: epsilon below 0, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.bd_cspn(support, labels, query, ways=2).argmax(-1)
    tensor([[0, 1]])
    """
    not_negative("bd_cspn", epsilon=epsilon)
    support, query = transformed(support, transform, base_mean), transformed(query, transform, base_mean)
    rows = rectified(support, labels, query, ways, variant=variant, epsilon=epsilon)
    return similarity(shifted(support, query) if shift_query else query, rows, distance)
