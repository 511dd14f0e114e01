"""What a checkpoint's training gives to the heads that need more than features: FEAT's and MatchingNet's networks, MAML's start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.datasets.base import Source
from kinshot.fewshot.evaluate import build_head, takes
from kinshot.fewshot.records import Head
from kinshot.learn import METHODS
from kinshot.learn.model import Model
from kinshot.recipes.loaded import Loaded

INPUT = "input"
"""The feature of heads that take the encoder itself: the samples, normalised and flattened."""
NEED_NETWORK = ("feat", "anil", "maml")
"""Heads that cannot do without their trained network; where there is none, on references and on other features, they are left out."""


@dataclass(frozen=True)
class TrainedHeads:
    """Builds heads for one model.

    Args:
        network: weights that the checkpoint's method trained for a head, on the backbone's features; or None.
        trains: that head's name.
        model: the encoder, for heads that adapt it; None for raw pixels and references.
    """

    network: Mapping[str, Tensor] | None = None
    trains: str = ""
    model: Model | None = None

    def build(self, name: str, settings: Mapping[str, Any], feature: str, base: Any = None) -> Head | None:
        """The head on a feature, or None where it has nothing to say about this feature.

        Raises ConfigError where a head was trained by no checkpoint at all.
        """
        whole = takes(name, "encoder")
        if whole != (feature == INPUT):
            return None
        fitting = self.network if name == self.trains and feature in ("backbone", INPUT) else None
        if fitting is None and name in NEED_NETWORK:
            if self.model is not None and self.trains != name:
                raise ConfigError(
                    f"head {name} needs what `fewshot train` learns with method {name}; this checkpoint has none: leave it out"
                )
            return None
        extra: dict[str, Any] = {"network": fitting} if fitting is not None else {}
        if whole and self.model is not None:
            extra["encoder"] = nn.Sequential(nn.Unflatten(1, input_shape(self.model)), self.model.encoder)
        return build_head(name, settings, base=base, **extra)


def trained_heads(run: Loaded, model: Model | None) -> TrainedHeads:
    """What a checkpoint, loaded with its part `network`, gives to heads."""
    if run.checkpoint.origin:
        return TrainedHeads(None, "", model)
    method: Any = METHODS.get(run.recipe.method.name)
    found = run.checkpoint.optional("network")
    return TrainedHeads(found, method.trains_head, model) if found and method.trains_head else TrainedHeads(None, "", model)


def input_shape(model: Model) -> tuple[int, ...]:
    """Shape of one sample as the encoder takes it. Raises ConfigError for tokens, which cannot be adapted by their values."""
    if model.input.vocabulary:
        what = model.input.kind
        raise ConfigError(f"a head that adapts the whole encoder needs images or features, and this encoder takes {what}: leave it out")
    return model.input.shape


def flat_inputs(model: Model, source: Source) -> Tensor:
    """Every sample of a source as the encoder takes it, one row each: float32 (N, D)."""
    return torch.cat([model.prepare(source.load(part)).flatten(1).contiguous() for part in torch.arange(len(source)).split(1024)])
