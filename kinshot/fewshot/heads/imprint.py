"""Weight imprinting: a support embedding is the classifier row of its class, no gradient needed."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.imprinting import append_rows, imprint_rows
from kinshot.fewshot.transforms import class_means, class_top_mean, query_similarity
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("imprint", scores="logits")
def imprint_head(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    proxies: Literal["average", "multi"] = "average",
    scale: float = 10.0,
    transform: Literal["l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Weight imprinting: class rows are re-normalised mean embeddings, or every embedding is a proxy; inductive.

    With phi = u(z): row w_c = u(mean of phi over class c), score = scale * <w_c, phi(q)>. With `multi` every support
    embedding stays a proxy and a class scores by its best one.

    Paper: Qi, Brown, Lowe, 2018, arXiv 1712.07136
    Departures: the paper learns the scale on the base classes; here it is a setting, which changes the softmax of the
    scores but no prediction. Centring (`cl2n`) is not in the paper.
    Defaults: YU1ut/imprinted-weights, whose scale starts at 10.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        proxies: one row per class (average) or one per support image (multi).
        scale: factor on the cosine, positive.
        transform: what gives the unit embedding; cl2n centres on the base classes first.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: scale not positive, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.imprint(support, labels, query, ways=2).round(decimals=1)  # ten times the cosine
    tensor([[[9.8000, 4.2000],
             [3.9000, 9.9000]]])
    """
    if scale <= 0:
        raise ConfigError(f"head imprint: scale must be positive, got {scale}")
    support = transformed(support, transform, base_mean)
    if proxies == "multi":
        return scale * class_top_mean(query_similarity(query, support, "cosine", transform, base_mean), labels, ways, 1)
    return scale * query_similarity(query, class_means(support, labels, ways), "cosine", transform, base_mean)


def imprint(weight: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Append one unit row per new class to a cosine classifier; the given rows are returned untouched.

    Paper: Qi, Brown, Lowe, 2018, arXiv 1712.07136

    Args:
        weight: (C, D) rows of the existing classifier; C may be 0.
        features: (n, D), or (n, A, D) for A augmented views of each image, which are averaged after normalisation.
        labels: int64 (n,) of the new classes, any integers.

    Returns:
        (C + number of new classes, D) in the dtype of `weight`; new rows follow in ascending order of their label.

    Raises:
        DataError: shapes that do not fit together, or no feature at all.
    """
    if features.ndim not in (2, 3) or weight.ndim != 2 or features.shape[-1] != weight.shape[-1] or features.numel() == 0:
        raise DataError(
            f"imprint needs weight (C, D) and features (n, D) or (n, A, D) with n >= 1, "
            f"got {tuple(weight.shape)} and {tuple(features.shape)}: embed the examples with the classifier's own encoder"
        )
    new, position = labels.to(weight.device).unique(sorted=True, return_inverse=True)
    return append_rows(weight, imprint_rows(features.to(weight), position, len(new)))
