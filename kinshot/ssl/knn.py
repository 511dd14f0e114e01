"""Weighted k-nearest-neighbor classification, the label probe of self-supervised learning."""

from __future__ import annotations

import torch
from torch import Tensor


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
