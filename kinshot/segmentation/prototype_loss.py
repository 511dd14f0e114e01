"""PANet's loss: cosine maps to prototypes, their cross-entropy, and the alignment of what the queries say back to the support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import full_precision
from kinshot.samples.class_map import IGNORE
from kinshot.segmentation.cosine_maps import cosine_maps, pixel_cross_entropy, predicted, upsampled
from kinshot.segmentation.counts import count_pixels
from kinshot.segmentation.dense import BACKGROUND, Dense, way_pixels
from kinshot.segmentation.pooling import masked_mean, mean_of_present, shot_prototypes
from kinshot.segmentation.prototypes import Averaging, ShotMeans, mean_prototypes, shot_means

_EPS = 1e-5
"""What PANet adds to the number of cells of a predicted mask."""


class Segmented(NamedTuple):
    """What a batch of dense episodes was found to be.

    Args:
        terms: `loss` with its gradient, and what is recorded beside it.
        means: what each support image says.
    """

    terms: dict[str, Tensor]
    means: ShotMeans


@dataclass(frozen=True)
class PrototypeLoss:
    """The cosine head's loss on dense episodes, and PANet's with its alignment.

    Args:
        alpha: factor on cosines.
        how: conventions of the masked means.
        alignment: weight of the alignment loss; 0 does not compute it.

    Raises:
        ConfigError: alpha not positive, or a weight below 0.
    """

    alpha: float
    how: Averaging
    alignment: float

    def __post_init__(self) -> None:
        if not self.alpha > 0 or not self.alignment >= 0:
            raise ConfigError(f"alpha must be above 0 and alignment at least 0, got {self.alpha} and {self.alignment}")

    def __call__(self, episodes: Dense, target: Tensor) -> Segmented:
        """Loss and terms of episodes whose queries' way maps are `target`, int64 (E, Q, H, W).

        Views may have cut a way out of all its support images: pixels of it in the query then say nothing.
        """
        support, query = episodes.support[episodes.stage], episodes.query[episodes.stage]
        means = shot_means(support, episodes.masks, self.how)
        scores = cosine_maps(query, mean_prototypes(means), self.alpha)
        target = without_lost(target, means.present[..., 1].any(2))
        corners = self.how.align_corners
        loss = segmentation = pixel_cross_entropy(scores, target, align_corners=corners)
        terms = {"segmentation": segmentation.detach()}
        if self.alignment:
            aligned = alignment_loss(episodes, scores, self.alpha, self.how)
            loss, terms["alignment"] = segmentation + self.alignment * aligned, aligned.detach()
        terms["miou"] = batch_miou(scores, target, align_corners=corners)
        return Segmented({"loss": loss, **terms}, means)


def query_prototypes(query: Tensor, target: Tensor, ways: int, how: Averaging) -> tuple[Tensor, Tensor]:
    """What queries that are known say of each way: (E, W, C), the mean over those that show it, and whether any does, bool (E, W).

    Args:
        query: maps (E, Q, C, h, w).
        target: their way maps (E, Q, H, W).
        ways: W.
        how: conventions of the masked means.
    """
    masks = target.unsqueeze(2) == torch.arange(1, ways + 1, device=target.device).view(-1, 1, 1)
    vectors, present = shot_prototypes(query, masks, how.pooling, align_corners=how.align_corners, eps=how.eps)
    return mean_of_present(vectors, present, 1), present.any(1)


def without_lost(target: Tensor, present: Tensor) -> Tensor:
    """Way maps (E, Q, H, W) that say nothing where a way is that `present`, bool (E, W), says has no prototype."""
    known = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)
    labels = target.masked_fill(target == IGNORE, BACKGROUND)
    lost = ~known.gather(1, labels.flatten(1)).view_as(target)
    return target.masked_fill(lost, IGNORE)


def alignment_loss(episodes: Dense, scores: Tensor, alpha: float, how: Averaging) -> Tensor:
    """PANet's alignment: the queries as they were segmented are a support, by which the support is segmented in turn.

    The queries' hard masks, the best label of each cell, give prototypes of background and ways, over all queries of an episode. Each
    support image is segmented into background and its own way; pixels of other ways say nothing. The cross-entropies are averaged over
    shots and ways; a way that was predicted nowhere counts as 0.

    Paper: Wang, Liew, Zou, Zhou, Feng, 2019, arXiv 1908.06391 (as in kaixin96/PANet).

    Args:
        episodes: maps of E episodes.
        scores: of the queries, (E, Q, 1 + W, h, w), in the size of their maps.
        alpha: factor on cosines.
        how: which pixels of the support are background, and which bilinear interpolation.
    """
    support, query, masks = episodes.support[episodes.stage], episodes.query[episodes.stage], episodes.masks
    (_, ways, shots), labels = masks.shape[:3], scores.detach().argmax(2)
    hard = (labels.unsqueeze(1) == torch.arange(1 + ways, device=labels.device).view(1, -1, 1, 1, 1)).to(scores.dtype)  # (E, 1+W, Q, h, w)
    beside = query.transpose(1, 2).flatten(2, 3)  # (E, C, Q * h, w): the queries' maps one below the other
    prototypes = masked_mean(beside, hard.flatten(2, 3), _EPS)
    own = torch.stack([prototypes[:, :1].expand(-1, ways, -1), prototypes[:, 1:]], dim=2)  # (E, W, 2, C)
    back = cosine_maps(support.flatten(1, 2), own.repeat_interleave(shots, dim=1), alpha).flatten(0, 1)
    truth = support_labels(masks, how).flatten(0, 2)
    with full_precision(back):
        each = cross_entropy(
            upsampled(back, (truth.shape[-2], truth.shape[-1]), align_corners=how.align_corners),
            truth,
            ignore_index=IGNORE,
            reduction="none",
        )
    of_image = each.flatten(1).sum(1) / (truth != IGNORE).flatten(1).sum(1).clamp_min(1)
    predicted_ways = hard[:, 1:].flatten(2).amax(2)  # (E, W), 1 where a way was predicted anywhere
    return (of_image.view(-1, ways, shots) * predicted_ways.unsqueeze(2)).mean()


def support_labels(masks: Tensor, how: Averaging) -> Tensor:
    """Of way maps (E, W, K, H, W) what each image says of its own way alone: 1 that way, 0 background, 255 nothing."""
    background = how.masks(masks)[:, :, :, 0]
    labels = torch.full_like(masks, IGNORE).masked_fill(background, BACKGROUND)
    return labels.masked_fill(way_pixels(masks), 1)


@torch.no_grad()
def batch_miou(scores: Tensor, target: Tensor, *, align_corners: bool = False) -> Tensor:
    """Mean over the ways of a batch of intersection over union, each way's pixels of all queries of its episode together.

    Ways that are neither in the truth nor predicted are left out. 0-dim; 0 where all are.

    Args:
        scores: (E, Q, 1 + W, h, w).
        target: way maps (E, Q, H, W).
        align_corners: which bilinear interpolation.
    """
    found = predicted(scores.float(), (target.shape[-2], target.shape[-1]), align_corners=align_corners)
    counts = count_pixels(found.flatten(0, 1), target.flatten(0, 1), scores.shape[2]).unflatten(0, target.shape[:2]).sum(1)
    overlap = counts.diagonal(dim1=1, dim2=2)[:, 1:]
    union = (counts.sum(1) + counts.sum(2))[:, 1:] - overlap
    return (overlap / union.clamp_min(1)).sum() / (union > 0).sum().clamp_min(1)
