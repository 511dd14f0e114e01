"""Weighted k-nearest-neighbor classification, the label probe of self-supervised learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_generator
from kinshot.kin.neighbors.ranking import rank, ranked_blocks
from kinshot.kin.neighbors.votes import by_distance, most_voted, softened, votes

LEAST_OF_A_CLASS = 20
"""Samples of a class that a probe takes at least, where there are as many: with fewer of each, most neighbors must be strangers."""


def rows_by_class(labels: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """Rows of a labelled set, up to `wanted`, drawn by class: int64, class by class in keyed order, ascending within a class.

    Every class gives equally many, as far as it has them; where that would be fewer than LEAST_OF_A_CLASS, the first classes in
    keyed order give that many and the others none. Classes of a single sample are left out: nothing of their kind could be found.
    Empty where fewer than two classes remain, which any guess would tell apart.

    Args:
        labels: int64 (N,), from 0.
        wanted: rows at most.
        seed: key of the draw.
    """
    sizes = np.bincount(labels)
    sizes[sizes < 2] = 0
    each = _share(sizes, wanted)
    place = torch.randperm(len(labels), generator=keyed_generator(seed, "probe/rows")).numpy()
    classes = torch.randperm(len(sizes), generator=keyed_generator(seed, "probe")).numpy()
    found: list[np.ndarray] = []
    for members in (np.flatnonzero(labels == c) for c in classes if sizes[c]):
        room = wanted - sum(map(len, found))
        if room < 2:
            break
        found.append(np.sort(members[np.argsort(place[members])[: min(each, room)]]))
    return np.concatenate(found) if len(found) > 1 else np.zeros(0, dtype=np.int64)


def _share(sizes: np.ndarray, wanted: int) -> int:
    """The most that every class may give without going beyond `wanted` in all, but at least LEAST_OF_A_CLASS."""
    low, high = LEAST_OF_A_CLASS, max(int(sizes.max(initial=0)), LEAST_OF_A_CLASS)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= wanted else (low, middle - 1)
    return low


@dataclass(frozen=True, eq=False)
class KnnAnswers:
    """What the neighbours of each query vote for.

    Args:
        classes: most voted first, of equal ones the lowest, int64 (Q, top); -1 where fewer have any vote.
        shares: their shares of the votes, float64 (Q, top).
    """

    classes: np.ndarray
    shares: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """The elected class of each query, int64 (Q,)."""
        return self.classes[:, 0]

    def accuracy(self, labels: Tensor | np.ndarray, top: int = 1) -> float:
        """Share of queries whose class (Q,) is among the `top` most voted, of as many as were asked for."""
        return float((self.classes[:, :top] == np.asarray(labels)[:, None]).any(axis=1).mean())


def knn_answers(bank: Tensor, bank_labels: Tensor, query: Tensor, *, k: int = 20, temperature: float = 0.1, top: int = 1) -> KnnAnswers:
    """The classes that cosine neighbours elect, voting with weight exp(similarity / temperature).

    Paper: Wu, Xiong, Yu and Lin, 2018, arXiv 1805.01978 (section 3.4).

    Args:
        bank: features (N, D); need not be normalised.
        bank_labels: int64 (N,), from 0.
        query: features (Q, D).
        k: neighbors that vote, at most N.
        temperature: sharpness of the votes, above 0 and as small as you like.
        top: classes that are named for each query.

    Raises:
        ConfigError: k or top below 1, or a temperature that is not above 0.
        DataError: features that are not finite.
    """
    return _answers(bank, bank_labels, query, [min(k, len(bank))], temperature, top)[0]


def knn_accuracy(bank: Tensor, bank_labels: Tensor, query: Tensor, query_labels: Tensor, *, k: int = 20, temperature: float = 0.1) -> float:
    """Share of queries whose class, int64 (Q,), is what `knn_answers` predicts."""
    return knn_answers(bank, bank_labels, query, k=k, temperature=temperature).accuracy(query_labels.cpu())


def knn_accuracies(
    bank: Tensor, bank_labels: Tensor, query: Tensor, query_labels: Tensor, *, ks: Sequence[int], temperature: float = 0.1
) -> dict[int, float]:
    """`knn_accuracy` by each number of neighbours, from one search.

    Raises ConfigError as `knn_answers` does, and for more neighbours than the bank has samples.
    """
    found = _answers(bank, bank_labels, query, ks, temperature, 1)
    return {k: answers.accuracy(query_labels.cpu()) for k, answers in zip(ks, found, strict=True)}


def _answers(bank: Tensor, bank_labels: Tensor, query: Tensor, ks: Sequence[int], temperature: float, top: int) -> list[KnnAnswers]:
    """What the nearest of each number of neighbours vote for."""
    if temperature <= 0 or top < 1:
        raise ConfigError(f"kNN votes need a temperature above 0 and top at least 1, got {temperature} and {top}")
    labels, found = bank_labels.cpu().numpy(), []
    for _, near in ranked_blocks(query.float(), bank.float(), k=max(ks)):
        voters, weights = labels[near.index.cpu().numpy()], softened(near.closeness.cpu().numpy(), temperature)
        found.append([most_voted(voters[:, :k], weights[:, :k], top) for k in ks])
    return [KnnAnswers(*map(np.concatenate, zip(*blocks, strict=True))) for blocks in zip(*found, strict=True)]


def leave_one_out(features: np.ndarray, labels: np.ndarray, *, k: int = 3) -> tuple[float, float]:
    """Accuracy and macro one-against-rest AUROC of a kNN classifier that asks every sample's neighbors but itself.

    Neighbors vote with weight 1 / Euclidean distance; at distance 0 only those at distance 0 vote. Samples labelled -1 are left out.

    Args:
        features: (N, D).
        labels: int64 (N,).
        k: neighbors that vote, below the number of labelled samples.

    Raises:
        DataError: fewer than two labels, or too few samples for k.
    """
    from sklearn.metrics import roc_auc_score

    known = labels >= 0
    classes, y = np.unique(labels[known], return_inverse=True)
    if len(classes) < 2 or len(y) <= k:
        raise DataError(f"leave-one-out kNN needs two labels and more than k={k} samples, got {len(classes)} labels, {len(y)} samples")
    near = rank(torch.from_numpy(features[known]).double(), k=k, metric="euclidean")
    found = votes(y[near.index.numpy()], by_distance(near.value.numpy()), len(classes))
    areas = [roc_auc_score(y == c, found[:, c]) for c in range(len(classes))]
    return float((found.argmax(1) == y).mean()), float(np.mean(areas))
