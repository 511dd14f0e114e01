"""Samples without augmentation, for methods that learn from labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.plan import Indices, Plan, Views, drawn
from kinshot.samples.spec import Spec


@VIEWS.register("clean")
class Clean(Views):
    """The samples themselves, normalised, as evaluation sees them.

    Paper: none; supervised episodes on Omniglot are usually trained without augmentation (Snell, Swersky, Zemel, 2017, arXiv 1703.05175).

    Args:
        views: number of copies.
    """

    accepts = ("image", "features", "tokens", "series", "frames", "bundle", "node")

    def __init__(self, input: Spec | Mapping[str, Spec], *, views: int = 1) -> None:
        super().__init__(input, views)
        if views < 1:
            raise ConfigError(f"clean: views must be at least 1, got {views}")

    def draw(self, indices: Indices, seed: int, epoch: int) -> Plan:
        """Nothing."""
        return drawn({}, self.views, indices, seed, epoch)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """`views` times the normalised batch."""
        clean = self.spec_of(field).normalize(samples)
        if clean.ndim == 4:
            clean = clean.contiguous(memory_format=torch.channels_last)
        return [clean] * self.views
