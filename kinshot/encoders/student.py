"""Settings of the narrower and shallower version of an encoder: students for distillation. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.scaling import check_factors, scaled

_WIDTH, _DEPTH = ("width",), ("depth", "layers")
"""Settings that say how wide and how deep an encoder is, by preference; `layers` is a transformer's depth."""


def student_of(name: str, settings: Mapping[str, Any], width: float = 1.0, depth: float = 1.0) -> dict[str, Any]:
    """The settings of an encoder's narrower or shallower version; a factor of 1 leaves its setting as it is.

    A whole number (the channels of conv4) is multiplied and rounded, to a multiple of the attention heads where there are some;
    a setting that is itself a factor (of resnet18) is multiplied. Parameters grow about with the square of the width.

    Args:
        name: an encoder in `ENCODERS`.
        settings: the teacher's settings; what is missing has the encoder's default.
        width: factor on channels or features, above 0.
        depth: factor on blocks or layers, above 0.

    Raises:
        ConfigError: a factor out of range, an encoder that is unknown or comes in fixed sizes.
    """
    check_factors("student", width=width, depth=depth)
    parameters = ENCODERS.entry(name).parameters
    found = dict(settings)
    for factor, choices in ((width, _WIDTH), (depth, _DEPTH)):
        if factor == 1:
            continue
        parameter = next((parameters[choice] for choice in choices if choice in parameters), None)
        if parameter is None:
            raise ConfigError(f"encoder {name} comes in fixed sizes and has no {choices[0]}: {_advice(name)}")
        value = found.get(parameter.name, parameter.default)
        multiple = _heads(name, found) if parameter.name in _WIDTH else 1
        found[parameter.name] = scaled(value, factor, multiple=multiple) if parameter.annotation == "int" else float(value) * factor
    return found


def _heads(name: str, settings: Mapping[str, Any]) -> int:
    """Attention heads, which divide the width; 1 where there are none."""
    parameter = ENCODERS.entry(name).parameters.get("heads")
    return 1 if parameter is None else int(settings.get("heads", parameter.default))


def _advice(name: str) -> str:
    if name == "timm":
        return "name a smaller model of timm, for example encoder.model=mobilenetv3_small_100 or encoder.model=efficientnet_lite0"
    return f"choose another encoder, for example encoder=conv4, or set its own settings (ssl show {name})"
