"""Upkeep of the pseudo-classes between steps: centroids, small clusters, health."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.objectives.common import full_precision
from kinshot.ssl.interclr.bank import Bank
from kinshot.ssl.interclr.kmeans import cluster_means, kmeans, spread_rows


@torch.no_grad()
def update_centroids_(bank: Bank) -> None:
    """Set every non-empty cluster's centroid to the mean of its members; an empty one keeps its old centroid."""
    means = cluster_means(bank.features, bank.labels, len(bank.centroids))
    bank.centroids.copy_(torch.where((bank.counts > 0).unsqueeze(1), means, bank.centroids))


@torch.no_grad()
def repair_small_clusters_(bank: Bank, minimum: int, iterations: int = 20, *, generator: torch.Generator | None = None) -> int:
    """Dissolve clusters below `minimum` members and rebuild each from half of the then largest; returns how many there were.

    Members of small clusters join the best centroid among the others, whose centroids are not refreshed by that. Then, in
    ascending order, each small cluster takes the second part of a 2-means split of the currently largest cluster, and those
    two centroids are computed anew. Afterwards no cluster is empty, but one can still be below `minimum`.

    The 2-means of a split starts from two rows that `generator` draws far from each other (`spread_rows`). Without one, as in the
    reference, they follow from the cluster's size alone, and a split that leaves a part too small is undone and made again for ever.

    Departures: when every cluster is small, the largest counts as not small; a 2-means split with an empty part cannot
    occur here, where the reference splits at random.

    Paper: Zhan, Xie, Liu, Ong, Loy 2020, arXiv 2006.10645 (ODC), as used by InterCLR.
    """
    small = bank.counts < minimum
    if not bool(small.any()):
        return 0
    if bool(small.all()):
        small[bank.counts.argmax()] = False
    _dissolve_(bank, small)
    names = small.nonzero().flatten().tolist()
    for name in names:
        _split_largest_into_(bank, name, iterations, generator)
    return len(names)


def cluster_health(bank: Bank) -> dict[str, Tensor]:
    """Smallest and largest cluster and the number of empty ones, as 0-dim tensors on the bank's device."""
    return {
        "cluster_min": bank.counts.min(),
        "cluster_max": bank.counts.max(),
        "cluster_empty": (bank.counts == 0).sum(),
    }


def _dissolve_(bank: Bank, small: Tensor) -> None:
    members = small[bank.labels].nonzero().flatten()
    with full_precision(bank.features):
        scores = (bank.features[members] @ bank.centroids.T).masked_fill(small, -torch.inf)
    bank.relabel_(members, scores.argmax(dim=1))


def _split_largest_into_(bank: Bank, empty: int, iterations: int, generator: torch.Generator | None) -> None:
    largest = bank.counts.argmax()
    members = (bank.labels == largest).nonzero().flatten()
    rows = bank.features[members]
    if generator is None:
        first = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:2]
    else:
        first = spread_rows(rows, 2, generator)
    halves, means = kmeans(rows, 2, first=first, iterations=iterations)
    moved = members[halves == 1]
    bank.relabel_(moved, torch.full_like(moved, empty))
    bank.centroids[largest], bank.centroids[empty] = means[0], means[1]
