"""The bank: one embedding and one pseudo-label for every training sample, and a centroid for every pseudo-class.

Functions whose names end in `_` change the bank in place, as torch's do: a bank of a million rows is not to be copied in
every step. `copy.deepcopy(bank)` keeps the old state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import KinshotError
from kinshot.objectives.common import full_precision, unit
from kinshot.ssl.interclr.kmeans import cluster_means, kmeans


class Bank(nn.Module):
    """Unit features (N, D), labels (N,), centroids (K, D) and member counts (K,), all of them buffers.

    Labels and counts say one thing: they change together, by `relabel_` and `fill_bank_`, and neither can be assigned alone.

    Centroids are plain means of unit rows and not normalised again, so that tight clusters attract a little more.

    Paper: Xie, Zhan, Liu, Ong, Loy 2020, arXiv 2008.11702; the bank follows Zhan, Xie, Liu, Ong, Loy 2020, arXiv 2006.10645.

    Args:
        features: (N, D), normalised here.
        labels: int64 (N,), pseudo-classes 0..K-1.
        clusters: K.
    """

    features: Tensor
    labels: Tensor
    centroids: Tensor
    counts: Tensor

    def __init__(self, features: Tensor, labels: Tensor, clusters: int) -> None:
        super().__init__()
        rows = unit(features)
        self.register_buffer("features", rows)
        self.register_buffer("labels", labels.clone())
        self.register_buffer("centroids", cluster_means(rows, labels, clusters))
        self.register_buffer("counts", torch.bincount(labels, minlength=clusters))

    @classmethod
    def unfilled(cls, samples: int, dim: int, clusters: int) -> Bank:
        """A bank of zeros, to be filled by `fill_bank_` or from a checkpoint; `filled` is False until then."""
        bank = cls(torch.zeros(samples, dim), torch.zeros(samples, dtype=torch.int64), clusters)
        bank.counts.zero_()
        return bank

    def __setattr__(self, name: str, value: Any) -> None:
        """As of any module, but for labels and counts. Raises KinshotError for these."""
        if name in ("labels", "counts"):
            raise KinshotError(f"a bank's {name} cannot be set alone: change labels by relabel_(indices, labels), which keeps the counts")
        super().__setattr__(name, value)

    @torch.no_grad()
    def relabel_(self, indices: Tensor, labels: Tensor) -> None:
        """Give samples new labels, and count anew; of a sample that occurs more than once the last label holds.

        Args:
            indices: int64 (B,).
            labels: int64 (B,), pseudo-classes 0..K-1.
        """
        last = last_occurrence(indices)
        new, old = labels[last], self.labels[indices]
        once = (last == torch.arange(len(indices), device=indices.device)).to(self.counts.dtype)
        self.counts.index_add_(0, old, -once)
        self.counts.index_add_(0, new, once)
        self.labels[indices] = new

    @property
    def filled(self) -> bool:
        """Whether the bank holds a clustering."""
        return bool(self.counts.any())


@torch.no_grad()
def fill_bank_(bank: Bank, features: Tensor, generator: torch.Generator, iterations: int = 20, *, keep_labels: bool = False) -> None:
    """Replace every feature and cluster anew: the initialisation, and the whole of the offline labels' periodic update.

    Args:
        bank: changed in place.
        features: fresh embeddings (N, D) of the whole training set, normalised here.
        generator: draws the first centroids.
        iterations: of k-means.
        keep_labels: start k-means from the present labels instead of from drawn centroids.
    """
    bank.features.copy_(unit(features))
    start = bank.labels if keep_labels else None
    labels, centroids = kmeans(bank.features, len(bank.centroids), generator=generator, iterations=iterations, assignment=start)
    bank.labels.copy_(labels)
    bank.centroids.copy_(centroids)
    bank.counts.copy_(torch.bincount(labels, minlength=len(centroids)))


@torch.no_grad()
def update_features_(bank: Bank, indices: Tensor, keys: Tensor, momentum: float = 1.0) -> None:
    """Blend keys into their samples' rows: V <- norm((1 - momentum) V + momentum key / |key|); 1 keeps the latest key alone.

    Of a sample that occurs more than once in the batch only the last key counts.

    Args:
        bank: changed in place.
        indices: int64 (B,).
        keys: (B, D), not necessarily normalised.
        momentum: a, weight of the key, in [0, 1].
    """
    with full_precision(bank.features):
        new = unit(keys.to(bank.features))
        if momentum != 1:
            new = unit((1 - momentum) * bank.features[indices] + momentum * new)
    # every copy of an index writes the same row, so the order of writes cannot matter, on any device
    bank.features[indices] = new[last_occurrence(indices)]


@torch.no_grad()
def update_labels_(bank: Bank, indices: Tensor) -> Tensor:
    """Give samples the label of the centroid with the largest dot product; returns the fraction of rows whose label changed.

    Args:
        bank: changed in place (labels and counts; centroids stay as they are).
        indices: int64 (B,).
    """
    old = bank.labels[indices]
    with full_precision(bank.features):
        bank.relabel_(indices, (bank.features[indices] @ bank.centroids.T).argmax(dim=1))
    return (bank.labels[indices] != old).float().mean()


def last_occurrence(indices: Tensor) -> Tensor:
    """For each position the last position holding the same index, int64 (B,)."""
    ordered, order = torch.sort(indices, stable=True)
    return order[torch.searchsorted(ordered, indices, right=True) - 1]
