"""One iteration of MoCo-InterCLR on embeddings: what to compare, what it costs, how the state moves on.

The networks stay outside: a batch here is the query and key embeddings of its samples. The sampler and the loss never meet:
`choose` returns indices, `inter_loss` takes them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.encoders.queue import KeyQueue
from kinshot.kin.constructors import listed
from kinshot.objectives.common import unit
from kinshot.objectives.info_nce import info_nce, key_info_nce
from kinshot.ssl.interclr.bank import Bank, update_features_, update_labels_
from kinshot.ssl.interclr.maintenance import cluster_health, repair_small_clusters_, update_centroids_
from kinshot.ssl.interclr.margins import Margin, apply_margin
from kinshot.ssl.interclr.neighbors import draw_neighbors
from kinshot.ssl.interclr.sampling import (
    Draw,
    candidate_pool,
    draw_from_pool,
    draw_positives,
    draw_random,
    first_from_pool,
    members_by_label,
)
from kinshot.ssl.interclr.settings import StepSettings


@dataclass(frozen=True)
class Choice:
    """Bank rows to compare with: positives (B,), negatives (B, M); weights (B,) are 0 for queries that lack either."""

    positives: Tensor
    negatives: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Iteration:
    """What an iteration returns: the differentiable losses, the state after it, the health figures."""

    loss: Tensor
    intra: Tensor
    inter: Tensor
    bank: Bank
    queue: KeyQueue
    health: dict[str, Tensor | float]


@torch.no_grad()
def choose(
    bank: Bank,
    query: Tensor,
    indices: Tensor,
    generator: torch.Generator,
    settings: StepSettings,
    graph: Tensor | None = None,
) -> Choice:
    """Draw each query's positive and negatives from the bank as it is before the step.

    Args:
        bank: filled.
        query: (B, D), normalised here.
        indices: int64 (B,), the queries' samples.
        generator: CPU generator; everything drawn comes from it.
        settings: sampler, sizes and `exclude_self` matter here.
        graph: mutual neighbours (N, k) to prefer as positives, from `mutual_neighbors`; None draws from the class.
    """
    groups = members_by_label(bank.labels, len(bank.centroids))
    positive = draw_positives(groups, bank.labels, indices, generator, exclude_self=settings.exclude_self)
    if graph is not None:
        positive = draw_neighbors(graph, bank.labels, indices, positive, generator)
    if settings.sampler == "random":
        negative = draw_random(groups, bank.labels, indices, settings.negatives, generator)
    else:
        negative = _draw_similar(bank, unit(query).to(bank.features.dtype), indices, generator, settings)
    weights = (positive.available > 0) & (negative.available > 0)
    return Choice(positive.indices, negative.indices, weights.to(bank.features.dtype))


def _draw_similar(bank: Bank, query: Tensor, indices: Tensor, generator: torch.Generator, settings: StepSettings) -> Draw:
    features, labels, rows = bank.features, bank.labels, None
    if settings.bank_fraction < 1:
        kept = max(1, round(settings.bank_fraction * len(labels)))
        rows = torch.randperm(len(labels), generator=generator)[:kept].to(labels.device)
        features, labels = features[rows], labels[rows]
    hard = settings.sampler == "hard"
    wanted = max(1, round(settings.pool * settings.bank_fraction))
    pool = candidate_pool(query, features, settings.sampler, settings.negatives + int(bank.counts.max()) if hard else wanted)
    same = labels[pool] == bank.labels[indices].unsqueeze(1)
    draw = first_from_pool(pool, same, settings.negatives) if hard else draw_from_pool(pool, same, settings.negatives, generator)
    return draw if rows is None else Draw(rows[draw.indices], draw.available)


def inter_loss(
    query: Tensor,
    features: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    temperature: float,
    margin: Margin = "none",
    margin_value: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Contrast queries with bank rows that somebody else chose.

    Args:
        query: (B, D), normalised here; the only argument that gets a gradient.
        features: the bank's unit rows (N, D).
        positives: int64 (B,).
        negatives: int64 (B, M).
        temperature: divides every similarity; above 0.
        margin: kind of margin on the positives.
        margin_value: its value.
        weights: optional (B,) factors; the mean stays one over B.
    """
    return info_nce(
        query,
        listed(positives, negatives, size=len(features)),
        features.detach(),
        temperature=temperature,
        positive_margin=lambda similarity: apply_margin(similarity, margin, margin_value),
        anchor_weights=weights,
        normalize="anchors",
    )


@torch.no_grad()
def advance_(
    bank: Bank, indices: Tensor, keys: Tensor, step: int, settings: StepSettings, generator: torch.Generator
) -> dict[str, Tensor | float]:
    """Move the bank past a step: features, and with online labels also labels, centroids and small clusters.

    Returns the health figures of the bank, and `change_ratio` and `cluster_small` with online labels.

    Args:
        bank: changed in place.
        indices: int64 (B,).
        keys: (B, D) embeddings to store, normalised here.
        step: 0-based; centroids follow in every `centroid_interval`-th step.
        settings: `bank_momentum`, `labels`, `centroid_interval`, `min_cluster` and `repair_starts` matter here.
        generator: CPU generator; what is drawn of a split comes from it.
    """
    update_features_(bank, indices, keys, settings.bank_momentum)
    if settings.labels == "offline":
        return dict(cluster_health(bank))
    changed = update_labels_(bank, indices)
    if (step + 1) % settings.centroid_interval == 0:
        update_centroids_(bank)
    small = repair_small_clusters_(bank, settings.min_cluster, generator=generator if settings.repair_starts == "kmeans++" else None)
    return {**cluster_health(bank), "cluster_small": float(small), "change_ratio": changed}


def iteration(
    bank: Bank,
    queue: KeyQueue,
    query: Tensor,
    key: Tensor,
    indices: Tensor,
    generator: torch.Generator,
    *,
    step: int,
    settings: StepSettings,
) -> Iteration:
    """A whole iteration of MoCo-InterCLR after the encoders: choose, both losses, new state. The given state is not changed.

    Paper: Xie, Zhan, Liu, Ong, Loy 2020, arXiv 2008.11702.

    Args:
        bank: state before the step.
        queue: state before the step.
        query: (B, D) embeddings of view 1.
        key: (B, D) embeddings of view 2 by the key encoder, no gradient.
        indices: int64 (B,).
        generator: CPU generator for the draws.
        step: 0-based.
        settings: of the iteration.
    """
    chosen = choose(bank, query.detach(), indices, generator, settings)
    intra = key_info_nce(query, key, queue.keys, settings.temperature)
    inter = inter_loss(
        query,
        bank.features,
        chosen.positives,
        chosen.negatives,
        temperature=settings.inter_temperature,
        margin=settings.margin,
        margin_value=settings.margin_value,
        weights=chosen.weights,
    )
    loss = settings.intra_weight * intra + settings.inter_weight * inter
    new_bank, new_queue = copy.deepcopy(bank), copy.deepcopy(queue)
    new_queue.enqueue_(unit(key.detach()))
    health = advance_(new_bank, indices, key.detach(), step, settings, generator)
    return Iteration(loss, intra, inter, new_bank, new_queue, health)
