"""NT-Xent: the two views of each image against all other views of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.constructors import views
from kinshot.objectives.info_nce import relational_info_nce


def nt_xent(first: Tensor, second: Tensor, temperature: float, ids: Tensor | None = None) -> Tensor:
    """Normalised temperature-scaled cross-entropy, mean over the 2B views.

    Each view's positive is the other view of its image, its negatives are the 2B - 2 views of the other images.

    Paper: Chen, Kornblith, Norouzi, Hinton 2020, arXiv 2002.05709.

    Args:
        first: (B, D), normalised here.
        second: (B, D), row b shows the same image as `first[b]`.
        temperature: divides every cosine; above 0.
        ids: int64 (B,), which image each row shows; rows of one image are kin. None = all differ.

    Raises:
        ConfigError: the temperature is not above 0, or shapes that do not fit together.
    """
    if first.shape != second.shape:
        raise ConfigError(f"nt_xent: both views need one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    if ids is None:
        ids = torch.arange(len(first))  # on the CPU, where that they differ is known at once
    kin = views(ids, 2).to(first.device)
    return relational_info_nce(torch.cat([first, second]), kin, temperature=temperature)
