"""Weighted k-nearest-neighbor classification, the label probe of self-supervised learning."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.core.rng import keyed_generator

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


def knn_accuracy(bank: Tensor, bank_labels: Tensor, query: Tensor, query_labels: Tensor, *, k: int = 20, temperature: float = 0.1) -> float:
    """Top-1 accuracy of cosine kNN whose neighbors vote with weight exp(similarity / temperature).

    Paper: Wu, Xiong, Yu and Lin, 2018, arXiv 1805.01978 (section 3.4).

    Args:
        bank: features (N, D); need not be normalised.
        bank_labels: int64 (N,), from 0.
        query: features (Q, D).
        query_labels: int64 (Q,).
        k: neighbors that vote, at most N.
        temperature: sharpness of the votes.
    """
    bank = torch.nn.functional.normalize(bank.float(), dim=1)
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    correct = 0
    for rows, labels in zip(query.split(1024), query_labels.split(1024), strict=True):
        similarity = torch.nn.functional.normalize(rows.float(), dim=1) @ bank.T  # (q, N)
        top, index = similarity.topk(min(k, bank.shape[0]), dim=1)
        votes = torch.zeros(len(rows), classes, device=rows.device)
        votes.scatter_add_(1, bank_labels[index], (top / temperature).exp())
        correct += int((votes.argmax(1) == labels).sum())
    return correct / len(query_labels)


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
    from sklearn.neighbors import NearestNeighbors

    known = labels >= 0
    classes, y = np.unique(labels[known], return_inverse=True)
    if len(classes) < 2 or len(y) <= k:
        raise DataError(f"leave-one-out kNN needs two labels and more than k={k} samples, got {len(classes)} labels, {len(y)} samples")
    distance, index = NearestNeighbors(n_neighbors=k).fit(features[known]).kneighbors()
    exact = distance == 0
    weight = np.where(exact.any(1, keepdims=True), exact, 1 / np.where(exact, 1, distance))
    votes = np.zeros((len(y), len(classes)))
    np.add.at(votes, (np.arange(len(y))[:, None], y[index]), weight / weight.sum(1, keepdims=True))
    areas = [roc_auc_score(y == c, votes[:, c]) for c in range(len(classes))]
    return float((votes.argmax(1) == y).mean()), float(np.mean(areas))
