"""Prototypes of dense episodes: one vector for the background and one for each way, from one shot or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kinshot.objectives.common import full_precision
from kinshot.segmentation.dense import way_pixels
from kinshot.segmentation.pooling import Pooling, background_pixels, mean_of_present, pooled_prototypes, shot_prototypes


@dataclass(frozen=True)
class Averaging:
    """The conventions of a masked mean.

    Args:
        pooling: where features and mask meet, as in `kinshot.segmentation.pooling`.
        align_corners: which bilinear interpolation; nothing to `nearest`.
        eps: added to the sum of the weights; None for 1e-5 where features are upsampled (PANet), else 5e-4 (PFENet).
        background: `strict`, the value 0 alone; `panet`, 255 too.
        other_ways: whether in an image of one way the pixels of another are background to it, or nothing (PANet).
    """

    pooling: Pooling = "upsample"
    align_corners: bool = False
    eps: float | None = None
    background: Literal["strict", "panet"] = "strict"
    other_ways: Literal["drop", "background"] = "drop"

    def masks(self, masks: Tensor) -> Tensor:
        """Pixels of background and of each image's own way in way maps (E, W, K, H, W): bool (E, W, K, 2, H, W)."""
        background = background_pixels(masks, ignored=self.background == "panet", other_ways=self.other_ways)
        return torch.stack([background, way_pixels(masks)], dim=3)


class ShotMeans(NamedTuple):
    """What each support image says of background (0) and of its own way (1).

    `vectors` (E, W, K, 2, C), zero where the image has none; `present` bool (E, W, K, 2), where it has some.
    """

    vectors: Tensor
    present: Tensor


def shot_means(support: Tensor, masks: Tensor, how: Averaging) -> ShotMeans:
    """Masked means of every support image of maps (E, W, K, C, h, w) and way maps (E, W, K, H, W)."""
    return ShotMeans(*shot_prototypes(support, how.masks(masks), how.pooling, align_corners=how.align_corners, eps=how.eps))


def mean_prototypes(means: ShotMeans) -> Tensor:
    """Background and ways, (E, 1 + W, C): each way's mean over its shots, the background's over all shots of all ways (PANet).

    An image without any is left out of the mean; a prototype is zero where every image is.
    """
    background = mean_of_present(means.vectors[..., 0, :], means.present[..., 0], (1, 2))
    return torch.cat([background.unsqueeze(1), mean_of_present(means.vectors[..., 1, :], means.present[..., 1], 2)], dim=1)


def prototypes_of_shots(means: ShotMeans) -> tuple[Tensor, Tensor]:
    """What each shot alone says, (E, K, 1 + W, C), the background's mean over the ways, and whether it does, bool (E, K, 1 + W)."""
    background = mean_of_present(means.vectors[..., 0, :], means.present[..., 0], 1)
    vectors = torch.cat([background.unsqueeze(2), means.vectors[..., 1, :].transpose(1, 2)], dim=2)
    present = torch.cat([means.present[..., 0].any(1).unsqueeze(2), means.present[..., 1].transpose(1, 2)], dim=2)
    return vectors, present


def pixel_prototypes(support: Tensor, masks: Tensor, how: Averaging) -> Tensor:
    """Background and ways, (E, 1 + W, C), each a mean over all pixels of all shots; the background's over those of all ways."""
    pixels = how.masks(masks)

    def pooled(maps: Tensor, of: Tensor) -> Tensor:
        return pooled_prototypes(maps, of, how.pooling, align_corners=how.align_corners, eps=how.eps)

    background = pooled(support.flatten(1, 2), pixels[:, :, :, :1].flatten(1, 2))
    return torch.cat([background, pooled(support, pixels[:, :, :, 1:]).squeeze(2)], dim=1)


def weighted_prototypes(means: ShotMeans, shares: Tensor) -> Tensor:
    """Background and ways for each query, (E, Q, 1 + W, C).

    A way's mean over its shots, weighted; the background's is the mean over the ways of what their shots say of it, weighted alike.

    Args:
        means: what each support image says.
        shares: how much each shot of a way counts for each query, (E, Q, W, K), above 0; brought to 1 in sum over the shots that have
            any pixel.
    """
    kept = shares.unsqueeze(-1) * means.present.unsqueeze(1)  # (E, Q, W, K, 2)
    kept = kept / kept.sum(3, keepdim=True).clamp_min(torch.finfo(kept.dtype).tiny)
    with full_precision(means.vectors):
        vectors = torch.einsum("eqwkb,ewkbc->eqwbc", kept, means.vectors)
    present = means.present[..., 0].any(2).unsqueeze(1).expand(vectors.shape[:3])
    return torch.cat([mean_of_present(vectors[..., 0, :], present, 2).unsqueeze(2), vectors[..., 1, :]], dim=2)
