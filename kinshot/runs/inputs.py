"""From a loaded batch to what a method's loss takes: augmented views, then the clean batch, then partners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.learn.method import Method
from kinshot.samples.spec import Spec


@dataclass(frozen=True)
class MethodInputs:
    """Makes the list of batches that a method asks for; called as views are.

    Args:
        views: the recipe's views.
        spec: what the encoder takes.
        method: says whether it needs clean samples and how it wants partners.
        batch_size: B; rows beyond it are partners, loaded because the method has companions.
    """

    views: Callable[..., list[Tensor]]
    spec: Spec
    method: Method
    batch_size: int

    def __call__(self, samples: Tensor, indices: Tensor, *, seed: int, epoch: int) -> list[Tensor]:
        """Samples (B + P, ...) and int64 indices (B + P,) to [views of B..., clean B, partners P], each normalised."""
        own, partners = samples[: self.batch_size], samples[self.batch_size :]
        made = self.views(own, indices[: self.batch_size], seed=seed, epoch=epoch)
        if self.method.needs_clean:
            made.append(self.clean(own))
        if len(partners) and self.method.partner_input == "clean":
            made.append(self.clean(partners))
        elif len(partners):
            made.append(self.views(partners, indices[self.batch_size :], seed=seed, epoch=epoch)[0])
        return made

    def clean(self, samples: Tensor) -> Tensor:
        """Samples as evaluation sees them, without augmentation."""
        return channels_last(self.spec.normalize(samples))


def channels_last(x: Tensor) -> Tensor:
    """Images in the memory format that convolutions are fast at; other samples as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
