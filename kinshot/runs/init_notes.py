"""What a person should know of a run that starts from another encoder: where it came from, what it sees now, what of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from kinshot.core.errors import DataError
from kinshot.datasets.base import Source
from kinshot.datasets.images import size_of_image
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Recipe
from kinshot.runs.embedder import input_spec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec

_LOOKED_AT = 64
"""Files whose sizes are read."""


def init_notes(given: Loaded, recipe: Recipe, encoder: nn.Module, input: Spec, source: Source) -> list[str]:
    """Lines on the encoder of `init`, once it is built, filled and frozen as far as the recipe says."""
    checkpoint = given.checkpoint
    origin = checkpoint.origin or f"step {checkpoint.step} of a run"
    notes = [f"init: {recipe.init}, encoder {recipe.encoder.name} ({origin})", *checkpoint.notes]
    made_for = input_spec(checkpoint)
    if isinstance(made_for, PixelSpec) and isinstance(input, PixelSpec) and input.side < made_for.side:
        notes.append(f"init was made for images of {made_for.side} pixels and sees {input.side} (data.size): fewer cost less and show less")
    if isinstance(input, PixelSpec):
        notes += enlarged(source.files or (), input.side)
    return [*notes, _trained(recipe, encoder)]


def enlarged(files: Sequence[Path], side: int) -> list[str]:
    """A line where most of the photographs are smaller than they are taken, by the sizes that some of them say."""
    rows = np.unique(np.linspace(0, len(files) - 1, min(len(files), _LOOKED_AT)).astype(int)) if files else ()
    found = []
    for row in rows:
        try:
            found.append(min(size_of_image(files[row])[:2]))
        except DataError:
            continue  # what cannot be read is the source's to say
    middle = int(np.median(found)) if found else side
    return [f"photographs are enlarged to {side} pixels: their shorter side has {middle} (median of {len(found)} files)"] * (middle < side)


def _trained(recipe: Recipe, encoder: nn.Module) -> str:
    """Which share of the encoder is trained, and what its running statistics do."""
    weights = list(encoder.parameters())
    left = sum(weight.numel() for weight in weights if weight.requires_grad)
    told = f"of the encoder's {sum(weight.numel() for weight in weights):,} weights {left:,} are trained"
    if not any(getattr(module, "running_mean", None) is not None for module in encoder.modules()):
        return told
    said = {"moving": "running statistics of normalisations in training follow the samples", "kept": "running statistics stay as they are"}
    chosen = recipe.train.norm_statistics
    return f"{told}; {said[chosen]} (train.norm_statistics={chosen})"
