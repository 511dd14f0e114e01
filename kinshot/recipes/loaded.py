"""A checkpoint together with the recipe that trained it: read, and parsed, once; everything that needs either is given both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinshot.core.checkpoint import PARTS, Checkpoint, load_checkpoint
from kinshot.recipes.recipe import Recipe, parse


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint folder holds.

    Args:
        checkpoint: what was read.
        recipe: what trained it.
    """

    checkpoint: Checkpoint
    recipe: Recipe


def with_recipe(checkpoint: Checkpoint) -> Loaded:
    """A checkpoint with its recipe. Raises ConfigError where the recipe is none that this version takes."""
    return Loaded(checkpoint, parse(checkpoint.config, checkpoint.path.name))


def read(path: Path, parts: Sequence[str] = PARTS) -> Loaded:
    """A checkpoint, or the one that a run folder is known by, with these parts. Raises what `load_checkpoint` and `parse` do."""
    return with_recipe(load_checkpoint(path, parts=parts))
