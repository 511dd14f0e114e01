"""What methods of segmentation ask of the data and of the encoder before they start."""

from __future__ import annotations

from typing import cast

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError, suggest
from kinshot.learn.model import Model


def class_count(name: str, context: RunContext) -> int:
    """How many base classes there are. Raises ConfigError where the data has no class maps."""
    if context.contains is None:
        raise ConfigError(f"{name} learns from class maps and the data has none: choose a source of scenes, such as glyph_scenes")
    return int(context.contains.shape[1])


def stages_of_model(name: str, model: Model) -> tuple[str, ...]:
    """Stages of a model's encoder. Raises ConfigError where it gives no maps."""
    stages: tuple[str, ...] = getattr(model.encoder, "stages", ())
    if not stages:
        raise ConfigError(f"{name} looks at maps and the encoder gives none: choose one with stages, such as conv4 or resnet12")
    return stages


def dims_of(model: Model) -> dict[str, int]:
    """Channels of each stage's maps."""
    return cast("dict[str, int]", model.encoder.dims)


def stage_named(name: str, setting: str, model: Model, wanted: str, number: int) -> str:
    """The stage that a setting names; for an empty one the stage of this number. Raises ConfigError with the closest name."""
    stages = stages_of_model(name, model)
    if not wanted:
        return stages[number]
    if wanted not in stages:
        raise ConfigError(f"{name}: {setting}: the encoder has no stage {wanted!r}: {suggest(wanted, stages)}")
    return wanted


def check_no_projector(name: str, model: Model) -> None:
    """Raises ConfigError for a model with a projector, which maps have no use for."""
    if model.projector is not None and any(True for _ in model.projector.parameters()):
        raise ConfigError(f"{name} compares the encoder's maps, on which no projector stands: set projector.layers=0")
