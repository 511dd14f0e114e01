"""Views of several fields by parts that draw on their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_seed
from kinshot.datasets.views.plan import Indices, Plan, Views


@dataclass(frozen=True)
class EachPlan(Plan):
    """The plans of the parts, in their order."""

    parts: tuple[Plan, ...]


class EachField(Views):
    """A part for some fields each; what must move together, an image and its mask or two cameras of one scene, belongs to one part.

    The first part draws what it would draw alone, the others from (seed, names of their fields).

    Args:
        parts: views of different fields, equally many of each.

    Raises:
        ConfigError: no part, a field of two parts, or parts of different numbers of views.
    """

    def __init__(self, parts: Sequence[Views]) -> None:
        names = [field for part in parts for field in part.fields]
        counts = sorted({part.views for part in parts})
        if len(counts) != 1 or len(set(names)) < len(names):
            raise ConfigError(
                f"views: expected parts of different fields and equally many views, got the fields {', '.join(names) or 'none'} and "
                f"{' and '.join(map(str, counts)) or 'no'} views: give each field to one part"
            )
        super().__init__({field: spec for part in parts for field, spec in part.fields.items()}, counts[0])
        self.parts = list(parts)

    def draw(self, indices: Indices, seed: int, epoch: int) -> EachPlan:
        """What every part draws."""
        seeds = [seed if place == 0 else keyed_seed(seed, f"views of {', '.join(part.fields)}") for place, part in enumerate(self.parts)]
        plans = tuple(part.draw(indices, one, epoch) for part, one in zip(self.parts, seeds, strict=True))
        rows = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
        return EachPlan(rows, {field: draws for plan in plans for field, draws in plan.draws.items()}, plans)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """What the field's part makes of a batch."""
        self.spec_of(field)
        if not isinstance(plan, EachPlan):
            raise ConfigError(f"views of each field: expected a plan of theirs, got {type(plan).__name__}: apply views to their own plans")
        (place,) = (place for place, part in enumerate(self.parts) if field in part.fields)
        return self.parts[place].apply(plan.parts[place], field, samples)
