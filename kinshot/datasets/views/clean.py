"""Samples without augmentation, for methods that learn from labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.views import VIEWS
from kinshot.samples.spec import Spec


@VIEWS.register("clean")
class Clean:
    """The samples themselves, normalised, as evaluation sees them.

    Paper: none; supervised episodes on Omniglot are usually trained without augmentation (Snell, Swersky, Zemel, 2017, arXiv 1703.05175).

    Args:
        views: number of copies.
    """

    accepts = ("image", "features", "tokens")

    def __init__(self, input: Spec, *, views: int = 1) -> None:
        if views < 1:
            raise ConfigError(f"clean: views must be at least 1, got {views}")
        self.input, self.views = input, views

    def __call__(self, samples: Tensor, indices: Tensor | np.ndarray, seed: int, epoch: int) -> list[Tensor]:
        """`views` copies of the normalised batch."""
        clean = self.input.normalize(samples)
        if clean.ndim == 4:
            clean = clean.contiguous(memory_format=torch.channels_last)
        return [clean] * self.views
