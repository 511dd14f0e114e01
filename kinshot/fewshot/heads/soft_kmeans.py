"""Soft k-means: class means that take in every query by its share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.fewshot import HEADS
from kinshot.fewshot.checks import not_negative, positive
from kinshot.fewshot.rectify import shifted
from kinshot.fewshot.span import Rows, Span, weighted_means
from kinshot.fewshot.transforms import class_means, one_hot
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("soft_kmeans", scores="logits")
@torch.no_grad()
def soft_kmeans(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    steps: int = 1,
    temperature: float = 1.0,
    distance: Literal["cosine", "squared"] = "squared",
    shift: bool = False,
    transform: Literal["none", "l2n", "cl2n"] = "none",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Class means refined by softly assigned queries (soft k-means); transductive.

    Repeat p_c = (sum of the class's K support rows + sum_q P_qc q) / (K + sum_q P_qc), where P is the softmax over the
    classes of temperature * cos(q, p) or -temperature * ||q - p||^2, from the class means on. Scores are these logits.

    Paper: Ren, Triantafillou, Ravi, Snell, Swersky, Tenenbaum, Larochelle, Zemel, 2018, arXiv 1803.00676
    Departures: the queries themselves play the part of the paper's unlabelled images, and nothing is learned. Features
    of another training want another temperature; for unit features, temperature=10:distance=cosine:transform=l2n is one.
    The shift is that of BD-CSPN (arXiv 1911.10713), and applies to the queries that are scored, too.
    Defaults: the authors' code (renmengye/few-shot-ssl-public, kmeans-refine), made for features trained with this distance.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        steps: how often the rows are recomputed; 0 scores by the class means.
        temperature: factor on the similarity; higher is sharper, and far below 1/2 every row drifts to the mean query.
        distance: how queries and rows are compared.
        shift: whether queries are moved by mean(support) - mean(query) first.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: a number below its minimum, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.soft_kmeans(support, labels, query, ways=2, temperature=10.0).argmax(-1)
    tensor([[0, 1]])
    """
    positive("soft_kmeans", temperature=temperature)
    not_negative("soft_kmeans", steps=steps)
    support, query = transformed(support, transform, base_mean), transformed(query, transform, base_mean)
    if shift:
        query = shifted(support, query)
    counts = one_hot(labels, ways, support).sum(1).unsqueeze(-1)
    span = Span.of(class_means(support, labels, ways), query, centre=distance == "squared")
    rows = span.start()
    logits = _logits(span, rows, distance, temperature)
    for _ in range(steps):
        rows = weighted_means(counts, logits.softmax(1))
        logits = _logits(span, rows, distance, temperature)
    return logits.mT


def _logits(span: Span, rows: Rows, distance: str, temperature: float) -> Tensor:
    """(E, W, Q)."""
    if distance == "cosine":
        return span.cosines(rows).mul_(temperature)
    return span.distances(rows).mul_(-temperature)
