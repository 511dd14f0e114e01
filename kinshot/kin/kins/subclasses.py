"""Kin by sub-classes that training finds inside each class."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_seed
from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs, at
from kinshot.kin.subclasses import check_divided, divided
from kinshot.samples.batch import Batch, Shown


@KINS.register("subclasses", labelled=True, classes=True)
class SubclassesKin(nn.Module, Kin):
    """Members of a sub-class are kin, all others are told apart; every few epochs each class is divided anew by its embeddings.

    Paper: Marrero Fernandez et al. 2020, arXiv 2001.06612, Deep metric structured learning (EM or k-means inside each class, then
        training goes on with sub-classes as classes). A reconstruction: how often they are made anew and how they are matched is ours.

    Until the first division a class is its only sub-class. Sub-classes made anew keep the numbers by which most samples stay where they
    were, so that an objective's row of a sub-class goes on to be its. Class c has the sub-classes c * count and those that follow. What
    training found is in its checkpoints (`assigned`), and `ssl subclasses` reads it.

    Args:
        attribute: classes by another name than the label, such as `coarse`; empty for the label.
        count: sub-classes of a class at most; one of n samples has at most n // 2.
        fit: kmeans, or em of Gaussians with one variance each in all directions.
        first: epochs before the first division; 0 divides what the network says before it is trained.
        every: epochs from one division to the next.
        normalize: divide embeddings of length 1, as most objectives compare them; false, as they are.
    """

    assigned: Tensor

    def __init__(
        self,
        known: Known,
        *,
        attribute: str = "",
        count: int = 2,
        fit: Literal["kmeans", "em"] = "kmeans",
        first: int = 1,
        every: int = 1,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        check_divided(count, fit)
        if first < 0 or every < 1:
            raise ConfigError(f"kin subclasses: expected first from 0 and every from 1, in epochs, got {first} and {every}")
        own = known.classes(attribute, "subclasses")
        self.count, self.fit, self.first, self.every, self.normalize = count, fit, first, every, normalize
        self.seed = known.context.seed
        self.classes = count * (int(own.max()) + 1) if len(own) else 0
        self.register_buffer("own", own, persistent=False)
        self.register_buffer("assigned", torch.where(own < 0, -1, own * count))

    @property
    def labels(self) -> Tensor:  # type: ignore[override]
        """Sub-class of every training sample, int64 (N,), -1 where the class is unknown."""
        return self.assigned

    def renews(self, epoch: int) -> bool:
        """Whether classes are divided before an epoch."""
        return epoch >= self.first and (epoch - self.first) % self.every == 0

    def renew(self, epoch: int, z: Tensor) -> None:
        """Divide each class by the embeddings (N, D) of its samples."""
        rows = nn.functional.normalize(z, dim=1) if self.normalize else z
        own = self.get_buffer("own")
        before = torch.where(own < 0, -1, self.assigned - own * self.count).cpu().numpy()
        parts = divided(
            rows.numpy(), own.cpu().numpy(), self.count, fit=self.fit, seed=keyed_seed(self.seed, "kin/subclasses", epoch), before=before
        )
        self.assigned.copy_(torch.where(own < 0, -1, own * self.count + torch.from_numpy(parts).to(own.device)))

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, by the sub-class of what they show."""
        y = at(self.assigned, shown)
        return Pairs(z, constructors.labels(y), y=y)
