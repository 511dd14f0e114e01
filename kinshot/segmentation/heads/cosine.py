"""Cosine prototypes: a cell belongs to the way whose masked mean feature it is most alike."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.samples.class_map import IGNORE
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.cells import cover
from kinshot.segmentation.cosine_maps import best_labels, cosine_maps, upsampled
from kinshot.segmentation.dense import Dense, check_dense
from kinshot.segmentation.gram import gram_difference, shot_shares
from kinshot.segmentation.prototypes import (
    Averaging,
    mean_prototypes,
    pixel_prototypes,
    prototypes_of_shots,
    shot_means,
    weighted_prototypes,
)
from kinshot.segmentation.votes import count_votes, hsnet_vote, majority_vote

_SCORES_AT_ONCE = 1 << 21
"""Most scores of pixels that are held before votes are counted."""


@SEGMENTERS.register(
    "cosine",
    scores={
        "shots": {"mean": "logits", "pooled": "logits", "weighted": "logits", "vote": "similarities", "majority": "probabilities"},
    },
    scale_free=True,
)
def cosine(
    episodes: Dense,
    *,
    alpha: float = 20.0,
    pooling: Literal["upsample", "downsample", "nearest"] = "upsample",
    align_corners: bool = False,
    eps: float | None = None,
    background: Literal["strict", "panet"] = "strict",
    other_ways: Literal["drop", "background"] = "drop",
    shots: Literal["mean", "pooled", "weighted", "vote", "majority"] = "mean",
    temperature: float = 0.1,
) -> Tensor:
    """Cosine to the masked mean features of background and ways (PANet's classifier).

    score_k(x) = alpha * cos(f(x), p_k), p_k the mean support feature under the mask of way k, p_0 that under the background. A shot
    without background, or whose object is lost in the convention of `pooling`, is left out; where all are, the score is 0.

    With several shots:

    * `mean`: mean over the shots' prototypes, the background's over those of all ways (PANet);
    * `pooled`: mean over all pixels of all shots;
    * `weighted`: mean weighted by softmax(-d / temperature) over shots, d the difference of Gram matrices of query and shot (BAM);
    * `vote`: every shot segments alone, in the masks' size, and HSNet's rule counts: foreground from half of the image's most votes;
    * `majority`: the same, and the label with most votes has the pixel.

    Paper: Wang, Liew, Zou, Zhou, Feng, 2019, arXiv 1908.06391 (PANet)
    Departures: PANet's background prototype takes pixels of 255 in (background=panet); by default they are nothing. BAM learns what
    shots weigh.
    Defaults: kaixin96/PANet but for `background`.

    Args:
        episodes: maps and way maps; the first stage is compared.
        alpha: factor on the cosine, positive.
        pooling: features upsampled to the mask, or the mask downsampled to the features, bilinearly or to the nearest pixel.
        align_corners: which bilinear interpolation, in pooling and before votes.
        eps: added to the sum of a mask's weights; None for the public code's of the convention.
        background: strict takes the value 0 alone as background; panet takes 255 too.
        other_ways: whether in an image of one way the pixels of another are background to it, or nothing.
        shots: how several shots make one answer.
        temperature: of `shots=weighted`, positive; lower lets the most similar shot decide.

    Returns:
        Scores (E, Q, 1 + W, h, w), background first; of the masks' height and width for votes.

    Raises:
        ConfigError: alpha or temperature not positive, or eps below 0.
        DataError: a way that no pixel of its support belongs to.

    >>> maps, half = torch.eye(2)[:, None, :].expand(2, 2, 2), torch.tensor([[0, 1], [0, 1]])  # two channels, one for each column
    >>> episodes = kinshot.Dense({"map": maps.view(1, 1, 1, 2, 2, 2)}, half.view(1, 1, 1, 2, 2), {"map": maps.view(1, 1, 2, 2, 2)})
    >>> kinshot.segmenters.cosine(episodes, pooling="nearest", alpha=1.0)[0, 0]  # cosine to the background, and to the way
    tensor([[[1., 0.],
             [1., 0.]],
            [[0., 1.],
             [0., 1.]]])
    """
    check_dense("cosine", episodes)
    if alpha <= 0 or temperature <= 0 or (eps is not None and eps < 0):
        raise ConfigError(
            f"segmenter cosine: alpha and temperature must be positive and eps at least 0, got {alpha=}, {temperature=} and {eps=}"
        )
    episodes.check()
    how = Averaging(pooling, align_corners, eps, background, other_ways)
    if shots in ("vote", "majority"):
        return _votes(episodes, how, shots)
    return cosine_maps(episodes.query[episodes.stage], _prototypes(episodes, how, shots, temperature), alpha)


def _prototypes(episodes: Dense, how: Averaging, shots: str, temperature: float) -> Tensor:
    """Background and ways, (E, 1 + W, C), or (E, Q, 1 + W, C) where shots weigh by how they look like the query."""
    support, query = episodes.support[episodes.stage], episodes.query[episodes.stage]
    if shots == "pooled":
        return pixel_prototypes(support, episodes.masks, how)
    means = shot_means(support, episodes.masks, how)
    if shots == "mean":
        return mean_prototypes(means)
    known = cover(episodes.masks != IGNORE, (support.shape[-2], support.shape[-1]))
    return weighted_prototypes(means, shot_shares(gram_difference(support, query, known), temperature))


def _votes(episodes: Dense, how: Averaging, rule: str) -> Tensor:
    """Scores (E, Q, 1 + W, H, W) by one of the two rules of voting, in the masks' size."""
    query, masks = episodes.query[episodes.stage], episodes.masks
    prototypes, present = prototypes_of_shots(shot_means(episodes.support[episodes.stage], masks, how))
    scores = cosine_maps(query, prototypes.flatten(1, 2)).unflatten(2, prototypes.shape[1:3])  # (E, Q, K, 1 + W, h, w)
    absent = ~present
    absent[..., 0] = False
    scores = scores.masked_fill(absent[:, None, ..., None, None], -torch.inf)  # a way has no vote of a shot that does not show it
    voters = present[..., 1:].any(-1)
    votes = _counted(scores, voters, (masks.shape[-2], masks.shape[-1]), how.align_corners)
    found = hsnet_vote(votes, episodes.shots) if rule == "vote" else majority_vote(votes, voters)
    return found.to(torch.promote_types(query.dtype, torch.float32))


def _counted(scores: Tensor, voters: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Votes (E, Q, 1 + W, *size) of shots with scores (E, Q, K, 1 + W, h, w); a few queries at a time, as all scores of pixels are many."""
    shots, labels = scores.shape[2:4]
    at_once = max(1, _SCORES_AT_ONCE // (shots * labels * size[0] * size[1]))
    heard = voters.unsqueeze(1).expand(scores.shape[:3]).flatten(0, 1)
    votes = [
        count_votes(best_labels(upsampled(some, size, align_corners=align_corners)), labels, who)
        for some, who in zip(scores.flatten(0, 1).split(at_once), heard.split(at_once), strict=True)
    ]
    return torch.cat(votes).unflatten(0, scores.shape[:2])
