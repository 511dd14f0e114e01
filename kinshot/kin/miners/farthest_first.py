"""Few anchors that stand for the batch, and for each of them kin and others that matter, are hard, and differ."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.k_center import greedy_k_center
from kinshot.kin.mined import both_weights, left
from kinshot.kin.miners import MINERS
from kinshot.kin.relation import Relation


@MINERS.register("farthest_first")
def farthest_first(
    similarity: Tensor,
    relation: Relation,
    *,
    anchors: int = 16,
    positives: int = 2,
    negatives: int = 2,
    relevance: float = 1.0,
    hardness: float = 1.0,
    diversity: float = 1.0,
    start: Literal["medoid", "random"] = "medoid",
    generator: torch.Generator | None = None,
) -> Relation:
    """Anchors each far from all chosen before; for them kin and others by relevance, hardness and diversity, one after the other.

    Paper: Sumbul, Ravanbakhsh, Demir 2021, arXiv 2105.03647 (triplets of images with several labels).
    Departure: a reconstruction from the paper's abstract. Rows without kin or without others are no anchors, as they make no triplet.

    Distances are those of unit rows. Kin score `relevance * weight + hardness * distance + diversity * distance to the nearest chosen
    kin`, others `relevance * weight + hardness * (2 - distance) + diversity * distance to the nearest chosen other`, where the weight is
    the pair's over its anchor's largest: give relations whose kin weigh as many labels as they share (kin `shared_labels` with
    `graded`). Of equals the first is taken.

    Args:
        similarity: cosines of a batch's rows with one another, (A, A).
        relation: of the same rows.
        anchors: at most so many, at least 1.
        positives: kin for each anchor, at most, at least 1.
        negatives: others for each anchor, at most, at least 1.
        relevance: factor on the pair's weight, from 0.
        hardness: factor on how wrong the distance is, from 0.
        diversity: factor on the distance to what was chosen, from 0.
        start: the first anchor: the one that is nearest to all rows on average, or a random one.
        generator: on the CPU; None = that of torch. A medoid draws nothing.

    Raises:
        ConfigError: a number out of range, references that are not the batch itself, or not one similarity for each pair.

    >>> z = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
    >>> mined = kinshot.miners.farthest_first(z @ z.T, kinshot.kin.labels(torch.tensor([0, 0, 1, 1])), anchors=2, negatives=1)
    >>> mined.dense()[1]
    tensor([[0., 0., 0., 0.],
            [0., 0., 1., 0.],
            [0., 0., 0., 0.],
            [0., 1., 0., 0.]])
    """
    for name, value, least in (("anchors", anchors, 1), ("positives", positives, 1), ("negatives", negatives, 1)):
        if value < least:
            raise ConfigError(f"{name}: expected at least {least}, got {value}")
    for name, factor in (("relevance", relevance), ("hardness", hardness), ("diversity", diversity)):
        if not factor >= 0:
            raise ConfigError(f"{name}: expected a number from 0, got {factor}")
    positive, negative = both_weights("farthest_first", similarity, relation)
    if similarity.shape[0] != similarity.shape[1] and similarity.shape[1] > 0:
        raise ConfigError(f"farthest_first: expected the rows of a batch and one another, (A, A), got {relation.shape}: choose other kin")
    kin, others = positive > 0, negative > 0
    if similarity.numel() == 0:
        return left(relation, positive, negative, (kin, others))
    d = (2 - 2 * similarity.detach()).clamp(min=0).sqrt()
    able = kin.any(dim=1) & others.any(dim=1)
    chosen = greedy_k_center(d, min(anchors, len(d)), first=_start(d, able, start, generator), among=able)
    chosen = chosen[chosen >= 0]
    far = diversity * d.expand(len(chosen), *d.shape)
    kept = []
    for weights, mask, count, hard in ((positive, kin, positives, d), (negative, others, negatives, 2 - d)):
        weights = weights[chosen] / weights[chosen].amax(dim=1, keepdim=True)
        score = relevance * weights + hardness * hard[chosen]
        picked = greedy_k_center(far, min(count, len(d)), among=mask[chosen], bonus=score)
        kept.append(_marked(chosen, picked, mask))
    return left(relation, positive, negative, (kept[0], kept[1]))


def _start(d: Tensor, able: Tensor, start: str, generator: torch.Generator | None) -> Tensor:
    """The first anchor, 0-dim."""
    if start == "medoid":
        return d.mean(dim=1).masked_fill(~able, torch.inf).argmin()
    if start != "random":
        raise ConfigError(f"start: expected medoid or random, got {start!r}")
    return torch.rand(len(d), generator=generator).to(d.device).masked_fill(~able, -1).argmax()


def _marked(anchors: Tensor, picked: Tensor, among: Tensor) -> Tensor:
    """Bool (A, A) of what int64 (m, count) of each of m anchors was picked, -1 for nothing."""
    mask = torch.zeros_like(among)
    rows = anchors.unsqueeze(1).expand_as(picked)
    there = picked >= 0
    mask[rows[there], picked[there]] = True
    return mask
