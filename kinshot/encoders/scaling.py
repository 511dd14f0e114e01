"""Factors of width and depth: how a narrower or shallower version of an encoder gets its whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

from kinshot.core.errors import ConfigError


def scaled(count: int, factor: float, *, multiple: int = 1) -> int:
    """A number of channels, blocks or layers times a factor, rounded half up to a multiple (of 1), which is also the least."""
    return max(multiple, int(count * factor / multiple + 0.5) * multiple)


def check_factors(where: str, **factors: float) -> None:
    """Raise ConfigError for a factor that is not above 0."""
    for name, factor in factors.items():
        if not 0 < factor < float("inf"):
            raise ConfigError(f"{where}: {name} is a factor and must be above 0, got {factor:g}: 0.5 halves it, 1 changes nothing")


def last_layers(values: Sequence[int], factor: float) -> tuple[int, ...]:
    """What remains of one value for each layer where the number of layers is multiplied by a factor: the last ones, all at most."""
    return tuple(values[-min(len(values), scaled(len(values), factor)) :])
