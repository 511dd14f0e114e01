"""How far apart prototypes lie in a batch of dense episodes, for records."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.segmentation.dense import Dense
from kinshot.segmentation.prototype_dictionary import class_distances
from kinshot.segmentation.prototype_loss import query_prototypes
from kinshot.segmentation.prototypes import Averaging, ShotMeans


@torch.no_grad()
def prototype_distances(episodes: Dense, target: Tensor, means: ShotMeans, classes: Tensor, how: Averaging) -> dict[str, Tensor]:
    """Mean cosine distance between prototypes of one class (`intra_class`) and of two (`inter_class`), as far as there are pairs.

    Prototypes are those of every support image and of the queries' known foreground, of all episodes of a batch.

    Args:
        episodes: maps of E episodes.
        target: way maps of their queries (E, Q, H, W).
        means: what each support image says.
        classes: int64 (E, W), the class of each way.
        how: conventions of the masked means.
    """
    asked, found = query_prototypes(episodes.query[episodes.stage], target, episodes.ways, how)
    shown = torch.cat([means.present[..., 1], found.unsqueeze(2)], dim=2)
    vectors = torch.cat([means.vectors[..., 1, :], asked.unsqueeze(2)], dim=2)[shown]
    return class_distances(vectors, classes.to(shown.device).unsqueeze(2).expand_as(shown)[shown].cpu())
