"""The head that validation episodes are classified by, and whether it can do that at all: tried before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kinshot.core.errors import ConfigError, KinshotError
from kinshot.recipes.recipe import ValidationConfig

if TYPE_CHECKING:
    from torch import Tensor

    from kinshot.fewshot.scores import BoundHead


def validation_head(settings: ValidationConfig, network: Mapping[str, Tensor] | None) -> BoundHead:
    """The head that `validation.head` names, with its defaults.

    Args:
        settings: of validation.
        network: what the method trains for this very head; None for nothing.
    """
    from kinshot.fewshot.evaluate import build_head

    extra: dict[str, Any] = {"network": network} if network else {}
    return build_head(settings.head, {}, **extra)


def try_validation_head(settings: ValidationConfig, width: int, network: Mapping[str, Tensor] | None) -> None:
    """Let the head answer one episode of noise of the shape of those of validation.

    Args:
        settings: of validation.
        width: numbers in the feature that it is measured on.
        network: as for `validation_head`.

    Raises:
        ConfigError: what the head says that it lacks: a network that no method trains, base classes, the encoder, as many ways as were
            trained, or features of another width.
    """
    import torch

    from kinshot.core.rng import keyed_generator

    generator, v = keyed_generator(0, "validation/try"), settings
    support, query = (torch.randn(1, v.ways * count, width, generator=generator) for count in (v.shots, 1))
    labels = torch.arange(v.ways).repeat_interleave(v.shots).unsqueeze(0)
    try:
        validation_head(v, network)(support, labels, query, v.ways)
    except (KinshotError, RuntimeError, ValueError) as error:
        problem = f"validation.head: {v.head} cannot classify {v.ways}-way episodes of the feature {v.feature}"
        raise ConfigError(f"{problem}: {error}; choose another head, prototype for example") from error
