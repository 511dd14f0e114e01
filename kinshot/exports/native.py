"""Which model of torchvision or timm an encoder is, under that library's own names for its weights; or why it is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kinshot.core.errors import ConfigError
from kinshot.exports.subject import Subject
from kinshot.recipes.recipe import Choice
from kinshot.samples.pixels import PixelSpec

INSTEAD = "use --format exported or onnx, which any program opens, or huggingface for kinshot.load"
_SHARED = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""Models that both libraries have, by the same names and with the same names of weights."""
_RESNETS = ("resnet18", "resnet50")
_COLOUR, _WHOLE = 3, 32


@dataclass(frozen=True)
class Native:
    """A library's model.

    Attributes:
        name: as the library calls it.
        input: images that it takes, normalised as the library's model expects them.
        options: what its constructor is told beside the name.
    """

    name: str
    input: PixelSpec
    options: dict[str, Any] = field(default_factory=dict)


Rule = Callable[[Choice, PixelSpec], Native | str]
"""The model that an encoder is, or why there is none."""


def native(subject: Subject, library: str) -> Native:
    """The model of a library that a subject's encoder is. Raises ConfigError that says why it is none, and what to use instead."""
    found = _found(subject.encoder, subject.images, library)
    if isinstance(found, str):
        raise ConfigError(f"{library} does not open this encoder: {found}; {INSTEAD}")
    return found


def known_to(subject: Subject, library: str) -> Native | None:
    """The same, or None where there is none."""
    if not isinstance(subject.input, PixelSpec):
        return None
    found = _found(subject.encoder, subject.input, library)
    return None if isinstance(found, str) else found


def _found(encoder: Choice, input: PixelSpec, library: str) -> Native | str:
    rule = (_TORCHVISION if library == "torchvision" else _TIMM).get(encoder.name)
    if rule is None:
        return f"{library} has no {encoder.name}"
    found = rule(encoder, input)
    if library == "torchvision" and not isinstance(found, str) and input.channels != _COLOUR:
        timm = ", or timm, whose models take in_chans" if encoder.name in _TIMM else ""
        return f"its models take 3 channels and it was trained on {input.channels}{timm}"
    return found


def _resnet(encoder: Choice) -> str:
    """What sets a residual network apart from the libraries' model of its name; empty for nothing."""
    settings = encoder.settings
    if settings["stem"] != "imagenet":
        return (
            f"it has a 3x3 stem where their {encoder.name} has one of 7x7 "
            f"(train with encoder.stem=imagenet, or change conv1 and maxpool of their model as `ssl inspect` says)"
        )
    if not math.isclose(settings["width"], 1) or not math.isclose(settings["depth"], 1):
        return f"it is a {encoder.name} of width {settings['width']:g} and depth {settings['depth']:g}, theirs are 1 and 1"
    return ""


def _torchvision_resnet(encoder: Choice, input: PixelSpec) -> Native | str:
    stride = encoder.settings["output_stride"]
    dilated = f"its output_stride is {stride}, theirs is 32" if stride != _WHOLE else ""
    return _resnet(encoder) or dilated or Native(encoder.name, input)


def _timm_resnet(encoder: Choice, input: PixelSpec) -> Native | str:
    return _resnet(encoder) or Native(encoder.name, input, _timm_options(input, encoder.settings["output_stride"]))


def _lite0(encoder: Choice, input: PixelSpec) -> Native | str:
    half = (0.5,) * input.channels  # which the encoder brings its images to inside, however they are normalised
    options = _timm_options(input, encoder.settings["output_stride"])
    return Native("tf_efficientnet_lite0", replace(input, mean=half, std=half), options)


def _of_torchvision(encoder: Choice, input: PixelSpec) -> Native | str:
    return Native(encoder.settings["model"], input)


def _of_timm(encoder: Choice, input: PixelSpec) -> Native | str:
    from kinshot.encoders.timm_adapter import fixed_size

    options = _timm_options(input, encoder.settings["output_stride"])
    if fixed_size(encoder.settings["model"]):
        options["img_size"] = [input.height, input.width]
    if patch := encoder.settings["patch"]:
        options["patch_size"] = patch
    return Native(encoder.settings["model"], input, options)


def _timm_in_torchvision(encoder: Choice, input: PixelSpec) -> Native | str:
    name = encoder.settings["model"]
    if name not in _SHARED or encoder.settings["output_stride"] != _WHOLE:
        return f"{name} is a model of timm"
    return Native(name, input)


def _torchvision_in_timm(encoder: Choice, input: PixelSpec) -> Native | str:
    name = encoder.settings["model"]
    return Native(name, input, _timm_options(input, _WHOLE)) if name in _SHARED else f"{name} is a model of torchvision"


def _timm_options(input: PixelSpec, output_stride: int) -> dict[str, Any]:
    options = {"in_chans": input.channels} if input.channels != _COLOUR else {}
    return {**options, **({"output_stride": output_stride} if output_stride != _WHOLE else {})}


_TORCHVISION: dict[str, Rule] = {
    **dict.fromkeys(_RESNETS, _torchvision_resnet),
    "torchvision": _of_torchvision,
    "timm": _timm_in_torchvision,
}
_TIMM: dict[str, Rule] = {
    **dict.fromkeys(_RESNETS, _timm_resnet),
    "efficientnet_lite0": _lite0,
    "timm": _of_timm,
    "torchvision": _torchvision_in_timm,
}
