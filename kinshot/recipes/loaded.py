"""A checkpoint together with the recipe that trained it: read, and parsed, once; everything that needs either is given both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import PARTS, Checkpoint, load_checkpoint
from kinshot.core.errors import CheckpointError
from kinshot.recipes.backbones import backbone_meant, is_backbone, read_backbone
from kinshot.recipes.exported import is_exported, read_exported, standing
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


_BEFORE = {("method", "interclr"): {"repair_starts": "size"}}
"""Settings that are younger than some checkpoints, by section and part, with the value that was in force before there were any."""


def recorded(checkpoint: Checkpoint) -> dict[str, Any]:
    """The plain data of a checkpoint's recipe: a setting that did not exist yet has the value that was in force, not today's default."""
    data = dict(checkpoint.config)
    for (section, part), values in _BEFORE.items():
        given = data.get(section)
        if isinstance(given, dict) and given.get("name") == part:
            data[section] = {**values, **given}
    return data


def with_recipe(checkpoint: Checkpoint) -> Loaded:
    """A checkpoint with its recipe. Raises ConfigError where the recipe is none that this version takes."""
    return Loaded(checkpoint, parse(recorded(checkpoint), checkpoint.path.name))


def read(path: Path, parts: Sequence[str] = PARTS) -> Loaded:
    """A checkpoint, or the one that a run folder is known by, with these parts; an exported folder; or a backbone by its name.

    Raises what `load_checkpoint`, `parse`, `read_exported` and `read_backbone` do.
    """
    if is_backbone(str(path)):
        return Loaded(*read_backbone(str(path)))
    if is_exported(standing(path)):
        return Loaded(*read_exported(standing(path)))
    if path.parent == Path() and not os.path.lexists(path):  # which takes any text for a path, however long
        meant = backbone_meant(str(path), [one.name for one in Path().glob("*")])
        if meant is not None:
            raise CheckpointError(f"there is no checkpoint {path}: did you mean the backbone {meant!r}?")
    return with_recipe(load_checkpoint(path, parts=parts))
