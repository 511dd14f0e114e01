"""Lloyd's k-means with a given generator, which never leaves a cluster empty."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError

# scores held at a time by `nearest_centroid`, 64 MiB in float32
_SCORES = 1 << 24


@torch.no_grad()
def kmeans(
    features: Tensor,
    clusters: int,
    *,
    generator: torch.Generator | None = None,
    iterations: int = 20,
    assignment: Tensor | None = None,
    first: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Euclidean k-means: labels int64 (N,) and centroids (K, D), the means of the final labels.

    An empty cluster takes the farther half of the then largest cluster, by a rule without randomness. Stops early when
    no label changes.

    Paper: Lloyd 1982, doi 10.1109/TIT.1982.1056489.

    Args:
        features: (N, D).
        clusters: K, at most N.
        generator: CPU generator that picks K distinct rows as first centroids; unused when `assignment` or `first` is given.
        iterations: most updates of the centroids.
        assignment: optional labels (N,) to start from.
        first: optional int64 (K,), distinct rows to start from.

    Raises:
        ConfigError: fewer rows than clusters, or nothing to start from.
    """
    if not 1 <= clusters <= len(features):
        raise ConfigError(f"k-means: expected 1 to {len(features)} clusters for {len(features)} rows, got {clusters}")
    if assignment is None and first is None and generator is None:
        raise ConfigError("k-means: nothing to start from: give a generator, an assignment, or the first rows")
    if assignment is None:
        picks = torch.randperm(len(features), generator=generator)[:clusters] if first is None else first
        labels = nearest_centroid(features, features[picks.to(features.device)])
    else:
        labels = assignment.clone()
    for _ in range(iterations):
        _fill_empty_(labels, features, clusters)
        new = nearest_centroid(features, cluster_means(features, labels, clusters))
        if torch.equal(new, labels):
            break
        labels = new
    _fill_empty_(labels, features, clusters)
    return labels, cluster_means(features, labels, clusters)


@torch.no_grad()
def spread_rows(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` distinct rows of (N, D), int64 on the CPU: the first uniform, each further one by its squared distance to the nearest so far.

    Where no other row lies anywhere else, the further ones are uniform over those that are left.

    Paper: Arthur, Vassilvitskii 2007, k-means++: the advantages of careful seeding (SODA).

    Args:
        features: (N, D).
        count: at most N.
        generator: CPU generator.
    """
    picks = torch.randint(len(features), (1,), generator=generator)
    distance = torch.full((len(features),), torch.inf, dtype=torch.float64)
    while len(picks) < count:
        to_last = (features - features[picks[-1]]).square().sum(dim=1).double().cpu()
        distance = torch.minimum(distance, to_last).index_fill_(0, picks, 0.0)
        chances = distance if bool(distance.any()) else torch.ones_like(distance).index_fill_(0, picks, 0.0)
        picks = torch.cat([picks, torch.multinomial(chances, 1, generator=generator)])
    return picks


def nearest_centroid(features: Tensor, centroids: Tensor) -> Tensor:
    """Index of the centroid at the smallest Euclidean distance, int64 (N,); ties go to the lowest index."""
    half_square = centroids.square().sum(dim=1) / 2
    rows = max(1, _SCORES // len(centroids))
    return torch.cat([torch.addmm(-half_square, part, centroids.T).argmax(dim=1) for part in features.split(rows)])


def cluster_means(features: Tensor, labels: Tensor, clusters: int) -> Tensor:
    """Mean row of each cluster (K, D); zeros where a cluster is empty."""
    sums = features.new_zeros(clusters, features.shape[1]).index_add_(0, labels, features)
    counts = torch.bincount(labels, minlength=clusters).clamp(min=1)
    return sums / counts.unsqueeze(1)


def _fill_empty_(labels: Tensor, features: Tensor, clusters: int) -> None:
    counts = torch.bincount(labels, minlength=clusters)
    for empty in (counts == 0).nonzero().flatten().tolist():
        largest = counts.argmax()
        members = (labels == largest).nonzero().flatten()
        rows = features[members]
        distance = (rows - rows.mean(dim=0)).square().sum(dim=1)
        far = members[distance.argsort(descending=True, stable=True)[: len(members) // 2]]
        labels[far] = empty
        counts[empty] += len(far)
        counts[largest] -= len(far)
