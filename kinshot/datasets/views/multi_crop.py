"""A few views of most of an image, and more of small parts of it at a smaller size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.part_text import example_of, read_settings, split_text
from kinshot.core.rng import keyed_seed
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.each_field import EachPlan
from kinshot.datasets.views.plan import Indices, Plan, Smaller, Views
from kinshot.samples.class_map import ClassMapSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec


@VIEWS.register("multi_crop")
class MultiCrop(Views):
    """Large views first, then small ones of parts of the image: what a part shows is to be told from what the whole does, for little.

    For methods of any number of views (`swav`, `dino`). Large and small views are views of their own, as
    texts with their settings; the large ones are those that they would be alone.

    Paper: Caron, Misra, Mairal, Goyal, Bojanowski, Joulin 2020, arXiv 2006.09882.

    Args:
        views: number of views of each image.
        large_views: how many of them are large; the others are small.
        share: sides of the small ones as a share of the large ones', above 0 and at most 1.
        large: what large views are.
        small: what small views are.
    """

    accepts = ("image",)

    def __init__(
        self,
        input: Spec | Mapping[str, Spec],
        *,
        views: int = 6,
        large_views: int = 2,
        share: float = 0.5,
        large: str = "warp:crop=[0.3, 1.0]:scale=[1.0, 1.0]:rotation=0.0:flip=0.5",
        small: str = "warp:crop=[0.05, 0.3]:scale=[1.0, 1.0]:rotation=0.0:flip=0.5",
    ) -> None:
        super().__init__(input, views)
        if not 1 <= large_views <= views or not 0 < share <= 1:
            problem = f"large_views must be 1 to views={views} and share above 0 and at most 1, got {large_views} and {share}"
            raise ConfigError(f"multi_crop: {problem}")
        smaller = {field: _smaller(field_spec, share) for field, field_spec in self.fields.items()}
        self.parts = [_part("large", large, self.fields, large_views)]
        if views > large_views:
            self.parts.append(_part("small", small, smaller, views - large_views))
            side = min(min(spec.height, spec.width) for spec in smaller.values())
            self.smaller = Smaller(side, f"views.share={share}, which makes views of {side} pixels,", "set a larger views.share")

    def draw(self, indices: Indices, seed: int, epoch: int) -> EachPlan:
        """What the large views draw, and with another seed the small ones."""
        seeds = [seed, keyed_seed(seed, "small views")][: len(self.parts)]
        plans = tuple(part.draw(indices, one, epoch) for part, one in zip(self.parts, seeds, strict=True))
        rows = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
        return EachPlan(rows, {field: tuple(u for plan in plans for u in plan.draws[field]) for field in plans[0].draws}, plans)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """The large views and then the small ones, normalised float32."""
        self.spec_of(field)
        if not isinstance(plan, EachPlan):
            raise ConfigError(f"multi_crop: expected a plan that it drew, got {type(plan).__name__}: apply views to their own plans")
        return [view for part, one in zip(self.parts, plan.parts, strict=True) for view in part.apply(one, field, samples)]


def _smaller(spec: Spec, share: float) -> PixelSpec | ClassMapSpec:
    """A field of small views. Raises ConfigError for what is neither an image nor a class map."""
    if not isinstance(spec, PixelSpec | ClassMapSpec):
        raise ConfigError(f"multi_crop takes images and class maps, got {spec.describe()}: choose other views")
    return replace(spec, height=max(1, round(spec.height * share)), width=max(1, round(spec.width * share)))


def _part(setting: str, text: str, fields: Mapping[str, Spec], views: int) -> Views:
    """The views that a text names. Raises ConfigError for a name or settings that are none, and for a number of views of its own."""
    place, example = f"views.{setting}", "warp:crop=[0.3, 1.0]"
    name, *assignments = split_text(text, ":", place, example)
    entry = VIEWS.entry(name)
    settings = read_settings(text, assignments, place, example_of(name, entry.parameters))
    if name == "multi_crop" or "views" not in entry.parameters or "views" in settings:
        raise ConfigError(f"{place}: expected views of one kind whose number multi_crop sets, got {text!r}: name for example {example}")
    made: Views = VIEWS.build(name, dict(fields), settings={**settings, "views": views})
    return made
