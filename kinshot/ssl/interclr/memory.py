"""InterCLR's bank for anybody's own loop: embeddings and online pseudo-labels of all samples, and the loss that draws its pairs there."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError, KinshotError, suggest
from kinshot.core.rng import keyed_generator
from kinshot.ssl.interclr.bank import Bank, fill_bank_
from kinshot.ssl.interclr.settings import StepSettings, scaled_sizes
from kinshot.ssl.interclr.step import advance_, choose, inter_loss


class ClusterMemory(nn.Module):
    """What a network said of every sample, clustered while it learns: samples of one cluster attract, others are told apart.

    `fill` it once; then in every step add `memory(z, indices)` to your loss, and call `after_step()` behind the optimizer's step, which
    is when rows, pseudo-labels, centroids and small clusters move. In evaluation mode nothing is noted. All of it is in `state_dict()`,
    also the number of steps, by which everything is drawn: a loop that goes on from a checkpoint between two steps goes on bit for bit.

    Paper: Xie, Zhan, Liu, Ong, Loy 2020, arXiv 2008.11702 (InterCLR); the bank follows arXiv 2006.10645 (ODC).

    Args:
        samples: N, how many there are; they are known by their numbers 0..N-1.
        dim: D, of the embeddings.
        clusters: K; 0 is N / 128.
        negatives: of a query; 0 is 0.128 P.
        pool: P, size of the pools that negatives are drawn from; 0 is N / 10.
        min_cluster: clusters with fewer members are dissolved; 0 is N / (6 K), at most 20.
        temperature: divides every cosine.
        seed: key of every draw.
        more: sampler, bank_fraction, exclude_self, margin, margin_value, bank_momentum, labels, centroid_interval, repair_starts: see
            `ssl show interclr`, whose defaults they have.

    Raises:
        ConfigError: a setting out of range, or one that there is not.

    >>> memory = kinshot.ClusterMemory(samples=256, dim=16, clusters=4)
    >>> memory.fill(torch.randn(256, 16, generator=torch.Generator().manual_seed(0)))
    >>> z = memory.bank.features[:8].clone().requires_grad_()
    >>> memory(z, torch.arange(8)).backward()
    >>> sorted(memory.after_step())
    ['change_ratio', 'cluster_empty', 'cluster_max', 'cluster_min', 'cluster_small']
    """

    steps: Tensor

    def __init__(
        self,
        samples: int,
        dim: int,
        *,
        clusters: int = 0,
        negatives: int = 0,
        pool: int = 0,
        min_cluster: int = 0,
        temperature: float = 0.2,
        seed: int = 0,
        **more: Any,
    ) -> None:
        super().__init__()
        sizes = scaled_sizes(samples, clusters=clusters, negatives=negatives, pool=pool, min_cluster=min_cluster)
        for name in more:
            if name not in _MORE:
                raise ConfigError(f"ClusterMemory has no setting {name!r}: {suggest(name, _MORE)}")
        self.settings = StepSettings(
            negatives=sizes.negatives, pool=sizes.pool, min_cluster=sizes.min_cluster, inter_temperature=temperature, **more
        )
        self.seed = seed
        self.bank = Bank.unfilled(samples, dim, sizes.clusters)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._noted: list[tuple[Tensor, Tensor]] = []

    @property
    def filled(self) -> bool:
        """Whether there is a clustering, from `fill` or from a loaded state."""
        return self.bank.filled

    @property
    def labels(self) -> Tensor:
        """The pseudo-label of every sample, int64 (N,)."""
        return self.bank.labels

    @torch.no_grad()
    def fill(self, features: Tensor) -> None:
        """Take embeddings (N, D) of all samples, in their order, and cluster them by k-means. Raises DataError for others."""
        if features.shape != self.bank.features.shape or not bool(torch.isfinite(features).all()):
            expected, got = tuple(self.bank.features.shape), tuple(features.shape)
            raise DataError(f"ClusterMemory: expected a finite embedding of each sample, {expected}, got {got}: embed all of them")
        fill_bank_(self.bank, features.to(self.bank.features), keyed_generator(self.seed, "interclr/kmeans", int(self.steps)))

    def forward(self, z: Tensor, indices: Tensor, keys: Tensor | None = None) -> Tensor:
        """The loss between samples, a scalar.

        Args:
            z: embeddings (B, D), which get the gradient; of any length.
            indices: int64 (B,), which samples these are.
            keys: (B, D), what to remember of them: those of another view or of a slowly following copy; None is `z` itself.

        Raises:
            KinshotError: the memory is empty.
        """
        if not self.filled:
            raise KinshotError("ClusterMemory is empty: fill it with embeddings of all samples, or load a state, before the first step")
        indices, number = indices.to(self.bank.labels.device), len(self._noted)
        # of several batches before one step each has draws of its own
        generator = keyed_generator(self.seed, "interclr/sample", int(self.steps), *([number] if number else []))
        chosen = choose(self.bank, z.detach(), indices, generator, self.settings)
        if self.training:
            self._noted.append((indices, (z if keys is None else keys).detach()))
        return inter_loss(
            z,
            self.bank.features,
            chosen.positives,
            chosen.negatives,
            temperature=self.settings.inter_temperature,
            margin=self.settings.margin,
            margin_value=self.settings.margin_value,
            weights=chosen.weights,
        )

    @torch.no_grad()
    def after_step(self) -> dict[str, Tensor | float]:
        """Move past the optimizer's step with what was noted since the last one; returns figures of the clusters' health.

        Embeddings that are not finite, of a step that a gradient scaler left out for example, are not remembered.
        """
        if not self._noted:
            return {}
        indices, keys = (torch.cat(parts) for parts in zip(*self._noted, strict=True))
        self._noted.clear()
        sound = torch.isfinite(keys).all(dim=1)
        generator, step = keyed_generator(self.seed, "interclr/repair", int(self.steps)), int(self.steps)
        health = advance_(self.bank, indices[sound], keys[sound], step, self.settings, generator)
        self.steps += 1
        return health


_MORE = {one.name for one in fields(StepSettings)} - {
    "negatives", "pool", "min_cluster", "temperature", "inter_temperature", "intra_weight", "inter_weight"
}  # fmt: skip
"""Settings of an iteration that are this memory's too, by the same names."""
