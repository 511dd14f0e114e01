"""What an encoder's stages give before pooling: maps over places, and the walk through stages that collects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Maps:
    """The output of one stage of an encoder.

    Args:
        values: (B, C, *grid): a grid of rows and columns for images, of places for texts, none for rows of numbers.
        stride: distance of neighbouring places in units of the input: pixels, characters.
        valid: bool (B, *grid), which places show the sample and not its padding; None where all do. Values elsewhere are zero.
        beside: (B, N, K), what the stage says of the whole sample beside its places: class and register tokens of as many channels, or
            features (K = 1) of other levels; None for nothing.
    """

    values: Tensor
    stride: int
    valid: Tensor | None = None
    beside: Tensor | None = None


def walk(network: nn.Module, stages: Sequence[str], x: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
    """Pass x through modules one after the other, as far as the last wanted one: the outputs of the wanted ones by name.

    Args:
        network: whose modules the stages are.
        stages: their dotted names, in order.
        x: what the first one takes.
        wanted: some of `stages`, in any order.
    """
    found: dict[str, Tensor] = {}
    missing = set(wanted)
    for name in stages:
        if not missing:
            break
        x = network.get_submodule(name)(x)
        if name in missing:
            found[name] = x
            missing.remove(name)
    if missing:
        raise KeyError(f"no stages {sorted(missing)} among {list(stages)}")
    return found


def place_mean(maps: Maps) -> Tensor:
    """Mean over the places that are valid: (B, C); zero for a sample without any."""
    places = maps.values.flatten(2).mT
    if maps.valid is None:
        return places.mean(dim=1)
    kept = maps.valid.flatten(1).unsqueeze(-1).to(places.dtype)
    return (places * kept).sum(dim=1) / kept.sum(dim=1).clamp_min(1)
