"""Class maps: a class for every pixel, and a value for those that nobody says anything of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from kinshot.core.errors import DataError
from kinshot.samples.spec import Spec, count, given_as

IGNORE = 255
"""The usual value of pixels without a class: borders of objects, and what lies outside of a turned picture."""


@dataclass(frozen=True)
class ClassMapSpec(Spec):
    """Maps that go with images: what is to be said of them, and never what a network takes; therefore not registered as a kind of input.

    Args:
        height: in pixels.
        width: in pixels.
        classes: how many there are; a map holds 0 to classes - 1.
        ignore: the value of pixels without a class, below 0 or from `classes` on.
    """

    kind: ClassVar[str] = "class map"
    resizable: ClassVar[bool] = True
    height: int
    width: int
    classes: int
    ignore: int = IGNORE

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ClassMapSpec:
        """What `to_dict` described."""
        return cls(count(given["height"]), count(given["width"]), count(given["classes"]), int(given["ignore"]))

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W)."""
        return self.height, self.width

    def values(self, batch: Tensor) -> Tensor:
        """The classes as int64."""
        return batch.long()

    def fit(self, batch: Tensor) -> Tensor:
        """Maps (B, H, W) in this size: each pixel has the class of the nearest one."""
        if batch.shape[1:] == self.shape:
            return batch
        # classes up to 2^53 are exact in float64
        return interpolate(batch[:, None].double(), size=self.shape, mode="nearest-exact")[:, 0].to(batch.dtype)

    def blank(self, n: int) -> Tensor:
        """Maps of one class each."""
        return (torch.arange(n) % self.classes).view(n, 1, 1).expand(n, *self.shape).contiguous()

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Classes drawn evenly."""
        return torch.randint(self.classes, (n, *self.shape), generator=generator)

    def prepare(self, samples: Tensor | Sequence[str]) -> Tensor:
        """Whole numbers (B, H, W) in this size, checked: int64."""
        if not isinstance(samples, Tensor) or samples.ndim != 3 or samples.is_floating_point():
            raise DataError(f"expected class maps (B, H, W) of whole numbers, got {given_as(samples)}")
        found = self.values(self.fit(samples))
        wrong = found[(found != self.ignore) & ((found < 0) | (found >= self.classes))]
        if len(wrong):
            known = f"0 to {self.classes - 1} and {self.ignore} for none"
            raise DataError(f"class maps hold {known}, got {int(wrong[0])}: give each class a number of these")
        return found

    def raw(self, batch: Tensor) -> Tensor:
        """Share of the pixels of each class: float32 (B, classes)."""
        flat = self.values(batch).flatten(1)
        kept = (flat != self.ignore).unsqueeze(2)
        counts = (one_hot(flat.where(kept[..., 0], 0), self.classes) * kept).sum(1).float()
        return counts / flat.shape[1]

    def describe(self) -> str:
        """Height, width and classes."""
        return f"class maps of {self.height} x {self.width} of {self.classes} classes"
