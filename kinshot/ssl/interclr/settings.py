"""Settings of an InterCLR iteration, checked, and the sizes that follow from the number of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from kinshot.core.errors import ConfigError
from kinshot.ssl.interclr.margins import Margin
from kinshot.ssl.interclr.sampling import Sampler


@dataclass(frozen=True)
class StepSettings:
    """Everything an iteration needs to know besides its state; defaults are the paper's where they do not depend on N.

    Args:
        negatives: M, negatives of a query.
        pool: P, size of the pools of "semi_hard" and "semi_easy".
        min_cluster: members below which a cluster is dissolved.
        sampler: where negatives come from.
        bank_fraction: share of the bank, newly drawn in each step, that pools are taken from, with P in proportion.
        exclude_self: whether a sample can never be its own positive.
        margin: kind of margin on the inter branch's positives.
        margin_value: its value; negative is less strict.
        temperature: of the intra branch.
        inter_temperature: of the inter branch.
        intra_weight: of the intra branch.
        inter_weight: of the inter branch.
        bank_momentum: a, weight of the new key in a bank row.
        labels: "online" renews labels in every step, "offline" leaves them to a periodic k-means.
        centroid_interval: steps between updates of the centroids (online labels only).
        repair_starts: rows that a split of the largest cluster starts from: "kmeans++" draws them, "size" takes those of its size.

    Raises:
        ConfigError: a value out of range, named.
    """

    negatives: int
    pool: int
    min_cluster: int = 20
    sampler: Sampler = "semi_hard"
    bank_fraction: float = 1.0
    exclude_self: bool = False
    margin: Margin = "cosine"
    margin_value: float = -0.5
    temperature: float = 0.2
    inter_temperature: float = 0.2
    intra_weight: float = 0.75
    inter_weight: float = 0.25
    bank_momentum: float = 1.0
    labels: Literal["online", "offline"] = "online"
    centroid_interval: int = 10
    repair_starts: Literal["kmeans++", "size"] = "kmeans++"

    def __post_init__(self) -> None:
        for name in ("negatives", "pool", "min_cluster", "centroid_interval"):
            at_least(name, getattr(self, name), 1)
        for name in ("intra_weight", "inter_weight"):
            at_least(name, getattr(self, name), 0)
        for name in ("temperature", "inter_temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not 0 <= self.bank_momentum <= 1:
            raise ConfigError(f"bank_momentum: expected a number from 0 to 1, got {self.bank_momentum}")
        if not 0 < self.bank_fraction <= 1:
            raise ConfigError(f"bank_fraction: expected a number above 0, at most 1, got {self.bank_fraction}")
        if self.margin == "arc" and abs(self.margin_value) > math.pi:
            raise ConfigError(f"margin_value: expected -pi to pi for the arc margin, got {self.margin_value}")


@dataclass(frozen=True)
class Sizes:
    """Sizes that depend on the number of samples: K, M, P and the smallest cluster that stays."""

    clusters: int
    negatives: int
    pool: int
    min_cluster: int


def scaled_sizes(samples: int, *, clusters: int = 0, negatives: int = 0, pool: int = 0, min_cluster: int = 0) -> Sizes:
    """Complete sizes given as 0 with the paper's ratios at ImageNet scale: K = N / 128, P = N / 10, M = 0.128 P.

    `min_cluster` becomes N / (6 K), at most the paper's 20.

    Raises:
        ConfigError: not 1 <= K <= N, P above N, or clusters that would be too small even if all were equal.
    """
    for name, value in (("clusters", clusters), ("negatives", negatives), ("pool", pool), ("min_cluster", min_cluster)):
        at_least(name, value, 0)
    clusters = clusters or min(samples, max(2, round(samples / 128)))
    pool = pool or max(1, round(samples / 10))
    negatives = negatives or max(1, round(0.128 * pool))
    min_cluster = min_cluster or min(20, max(1, samples // (6 * clusters)))
    if clusters > samples or pool > samples:
        raise ConfigError(f"clusters and pool: expected at most {samples}, the number of samples, got {clusters} and {pool}")
    if min_cluster * clusters > samples:
        raise ConfigError(
            f"min_cluster: {clusters} clusters of {min_cluster} need {min_cluster * clusters} samples, got {samples}: "
            f"set at most {samples // clusters}, or fewer clusters"
        )
    return Sizes(clusters, negatives, pool, min_cluster)


def at_least(name: str, value: float, least: int) -> None:
    """Raises ConfigError unless `value` is `least` or more."""
    if not value >= least:
        raise ConfigError(f"{name}: expected at least {least}, got {value}")
