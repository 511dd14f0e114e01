"""Matching networks: a query attends to the support images and takes over their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS
from kinshot.fewshot.full_context import full_context
from kinshot.fewshot.transforms import cosine, one_hot, unit
from kinshot.fewshot.transforms import transform as transformed

_CLOSER_LOOK = 100.0  # that code's factor on the cosine


@HEADS.register(
    "matching",
    scores={
        "variant": {
            "paper": "probabilities",
            "log": "log_probabilities",
            "easyfsl": "log_probabilities",
            "closerlook": "log_probabilities",
        }
    },
)
def matching(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    variant: Literal["paper", "log", "easyfsl", "closerlook"] = "paper",
    temperature: float = 1.0,
    transform: Literal["none", "l2n", "cl2n"] = "none",
    base_mean: Tensor | None = None,
    network: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Softmax attention over the support images (MatchingNet), with full context embeddings where they were trained; inductive.

    P_c(q) = sum over support rows i of class c of softmax_i(similarity(q, s_i) / temperature). Classes share the attention
    by their number of support rows, as in the paper: with an unbalanced support set, larger classes are favored.

    * `paper`: similarity is the cosine, scores are P;
    * `log`: the same, scores are log(P + 1e-12), for a negative log-likelihood;
    * `easyfsl`: the query keeps its length, <q, u(s_i)>, scores are log(P + 1e-6);
    * `closerlook`: 100 * max(cosine, 0), scores are log(P + 1e-6).

    `paper` and `log` predict the same; the other two attend more sharply and may not.

    Paper: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, 2016, arXiv 1606.04080
    Departures: without `network` there are no full context embeddings (LSTMs over support and query), and with it the order of the
    support rows does not matter (`full_context`); the paper has no temperature.
    Defaults: oscarknagg/few-shot without its context embeddings.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        variant: which similarity and which scores, as above.
        temperature: divides the similarity, positive; smaller attends to fewer images.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.
        network: trained weights as `full_context` names them, which then follows the transform; None leaves the context out.

    Returns:
        Scores (E, Q, W): probabilities for `paper`, their logarithm otherwise.

    Raises:
        ConfigError: temperature not positive, or `cl2n` without `base_mean`.
        DataError: a way without support, or a network of another width.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.matching(support, labels, query, ways=2).round(decimals=2)  # class 0 has two of three images
    tensor([[[0.7800, 0.2200],
             [0.5300, 0.4700]]])
    """
    if temperature <= 0:
        raise ConfigError(f"head matching: temperature must be positive, got {temperature}")
    hot = one_hot(labels, ways, query)
    support, query = transformed(support, transform, base_mean), transformed(query, transform, base_mean)
    if network is not None:
        support, query = full_context(support, query, network)
    return attention_scores(support, hot, query, variant, temperature)


def attention_scores(support: Tensor, hot: Tensor, query: Tensor, variant: str, temperature: float) -> Tensor:
    """The scores of `matching` of features that are ready to be compared.

    Args:
        support: (E, S, D).
        hot: ways of the support rows as indicators (E, S, W).
        query: (E, Q, D).
        variant: as in `matching`; all but `paper` give logarithms of probabilities.
        temperature: divides the similarity.

    Returns:
        (E, Q, W).
    """
    probability = (_similarity(query, support, variant) / temperature).softmax(-1) @ hot
    if variant == "paper":
        return probability
    return torch.log(probability + (1e-12 if variant == "log" else 1e-6))


def _similarity(query: Tensor, support: Tensor, variant: str) -> Tensor:
    if variant == "easyfsl":
        return query @ unit(support).mT
    found = cosine(query, support)
    return _CLOSER_LOOK * found.clamp_min(0) if variant == "closerlook" else found
