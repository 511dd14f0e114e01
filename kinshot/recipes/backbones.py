"""Backbones that were trained elsewhere, read as if they were checkpoints.

`timm:NAME[:WEIGHTS]`, `torchvision:NAME[:WEIGHTS]`, `onnx:FILE` (or a name that ends with .onnx), and encoders that bring weights of their
own, such as `efficientnet_lite0`, stand wherever a checkpoint does. They have no projector, no recipe and no training data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kinshot.core.checkpoint import Checkpoint
from kinshot.core.errors import ConfigError
from kinshot.core.weight_files import matched, read_weights
from kinshot.encoders import ENCODERS
from kinshot.recipes.recipe import Choice, ProjectorConfig, Recipe

if TYPE_CHECKING:
    from kinshot.samples.pixels import PixelSpec

LIBRARIES = ("timm", "torchvision")
ONNX = "onnx"
FORMS = "timm:NAME[:WEIGHTS], torchvision:NAME[:WEIGHTS], onnx:FILE"
UNKNOWN = Choice("", {})
"""What is not known of a backbone that was not trained here: its data, its views, its method."""


@dataclass(frozen=True)
class _Found:
    """A backbone: its encoder as a recipe would name it, what it was made for, its weights, what was left aside, how it came to be."""

    encoder: Choice
    input: PixelSpec
    weights: dict[str, Tensor]
    origin: str
    rows: dict[str, Tensor] = field(default_factory=dict)
    random: bool = False
    notes: tuple[str, ...] = ()


def is_backbone(text: str) -> bool:
    """Whether a name that stands where checkpoints do is that of a backbone trained elsewhere; looks at no file but one of that name."""
    library, colon, _ = text.partition(":")
    if colon and library in (*LIBRARIES, ONNX):
        return True
    return (text.endswith(".onnx") or text in pretrained_encoders()) and not Path(text).is_dir()


def known_data(choice: Choice) -> Choice:
    """A choice of data as it is. Raises ConfigError where it stands for the unknown data of a backbone that was not trained here."""
    if choice == UNKNOWN:
        raise ConfigError("a backbone that was not trained here has no data of its own: say which (--data, or --base for base classes)")
    return choice


def pretrained_encoders() -> list[str]:
    """Names of the encoders that bring weights of their own."""
    return [name for name, entry in ENCODERS.entries.items() if "pretrained" in entry.parameters]


def backbone_meant(text: str, others: Sequence[str] = ()) -> str | None:
    """The name of a backbone that a text of no checkpoint is closest to; None where it is closer to one of `others`, or to none."""
    library, colon, rest = text.partition(":")
    names = [*pretrained_encoders(), *(f"{known}:{rest}" for known in (*LIBRARIES, ONNX) if colon and rest)]
    if colon and library in pretrained_encoders():
        return library
    close = get_close_matches(text, [*others, *names], n=1, cutoff=0.7)
    return close[0] if close and close[0] in names else None


def read_backbone(text: str, mean: Sequence[float] = (), std: Sequence[float] = ()) -> tuple[Checkpoint, Recipe]:
    """A backbone by its name, as a checkpoint with a recipe that says its encoder alone.

    Args:
        text: its name.
        mean: per-channel mean of pixels in [0, 1] that an ONNX file expects which does not say; empty for ImageNet's.
        std: the same for the standard deviation.

    Raises:
        ConfigError: a name that is none, a library that is not installed, or what is no such model.
        CheckpointError: weights that cannot be read or do not fit; every leftover is named.
    """
    library, colon, rest = text.partition(":")
    if colon and library in LIBRARIES:
        name, _, file = rest.partition(":")
        if not name:
            raise ConfigError(f"{text}: expected {library}:NAME[:WEIGHTS], got no name; for example {library}:resnet18:weights.safetensors")
        found = _of_library(library, name, file)
    elif text in pretrained_encoders():
        found = _own_weights(text)
    else:
        file = rest if colon and library == ONNX else text
        if not file:
            raise ConfigError(f"{text}: expected onnx:FILE, got no file")
        found = _onnx(file, mean, std)
    state = {"step": 0, "epoch": 0, "input": found.input.to_dict(), "random": found.random}
    config = {"name": text, "encoder": {"name": found.encoder.name, **found.encoder.settings}}
    tensors = {"encoder": found.weights, "projector": {}, "training": {}, **({"rows": found.rows} if found.rows else {})}
    checkpoint = Checkpoint(Path(text), state, config, {}, tensors, origin=found.origin, notes=found.notes)
    return checkpoint, not_trained_here(text, found.encoder)


def not_trained_here(name: str, encoder: Choice) -> Recipe:
    """The recipe of a backbone that was trained elsewhere: it says the encoder alone."""
    return Recipe(name=name, data=UNKNOWN, views=UNKNOWN, encoder=encoder, method=UNKNOWN, projector=ProjectorConfig(layers=0))


def _of_library(library: str, name: str, file: str) -> _Found:
    from kinshot.encoders.build import build_encoder

    input, notes = _timm_input(name) if library == "timm" else _torchvision_input(name, file)
    encoder: Any = build_encoder(library, {"model": name}, input)
    choice = Choice(library, {"model": name})
    if not file:
        told = f"{library}:{name} names no weights: they are random (seed 0), as before any training; {_how_to_get(library, name)}"
        return _Found(choice, input, encoder.state_dict(), "untrained: random weights of seed 0", random=True, notes=(told, *notes))
    found = matched(encoder.state_dict(), read_weights(Path(file)), encoder.classifier)
    rows = _rows(found.head, encoder.classifier[0] if encoder.classifier else "", encoder.dim)
    return _Found(choice, input, found.own, f"not trained here: weights of {file}", rows, notes=(*found.notes, *notes))


def _how_to_get(library: str, name: str) -> str:
    make = f"torchvision.models.get_model('{name}', weights='DEFAULT')"
    if library == "timm":
        make = f"timm.create_model('{name}', pretrained=True)"
    return (
        f'for trained ones give {library}:{name}:FILE, made once where there is a network: python -c "import {library}; '
        f"from safetensors.torch import save_file; save_file({make}.state_dict(), 'FILE.safetensors')\""
    )


def _rows(head: dict[str, Tensor], name: str, dim: int) -> dict[str, Tensor]:
    """The classifier that a file has, where it is one linear layer on the features."""
    weight = head.get(f"{name}.weight")
    if weight is None or weight.shape[1:] != (dim,):
        return {}
    return {part: head[f"{name}.{part}"].float() for part in ("weight", "bias") if f"{name}.{part}" in head}


def _timm_input(name: str) -> tuple[PixelSpec, tuple[str, ...]]:
    """What a model of timm takes, by timm's own data config; and what of that is left out."""
    from kinshot.encoders.timm_adapter import data_config

    config = data_config(name)
    channels, height, width = config["input_size"]
    mean, std = (tuple(map(float, config[key])) for key in ("mean", "std"))
    input = _spec(channels, height, width, mean, std, config["interpolation"])
    return input, _departures("timm", input, config["interpolation"], float(config.get("crop_pct") or 1))


def _torchvision_input(name: str, file: str) -> tuple[PixelSpec, tuple[str, ...]]:
    """What a model of torchvision takes, by what stands beside the weights that the file is named after, or else its newest ones."""
    from kinshot.encoders.torchvision_model import data_config

    config = data_config(name, Path(file).name)
    input = _spec(3, config.size, config.size, config.mean, config.std, config.interpolation)
    return input, _departures("torchvision", input, config.interpolation, config.size / config.resized)


def _spec(channels: int, height: int, width: int, mean: tuple[float, ...], std: tuple[float, ...], filter: str) -> PixelSpec:
    from kinshot.samples.pixels import INTERPOLATIONS, PixelSpec

    return PixelSpec(channels, height, width, mean, std, filter if filter in INTERPOLATIONS else "bicubic")


def _departures(library: str, input: PixelSpec, filter: str, crop: float) -> tuple[str, ...]:
    """What of a library's preparation of images is done otherwise here."""
    notes = []
    if filter != input.interpolation:
        notes.append(f"{library} resizes by {filter}: taken here is {input.interpolation}")
    if crop < 1:
        notes.append(f"{library} cuts off the margin (crop_pct {crop:.3g}): left out here, all of an image is resized to {input.height}")
    return tuple(notes)


def _own_weights(name: str) -> _Found:
    """An encoder that brings weights: made for the samples that they expect, and their file's classifier."""
    part: Any = ENCODERS.get(name)
    from kinshot.encoders.build import build_encoder

    choice = Choice(name, {"pretrained": False})  # the weights are the checkpoint's: built again it needs no package
    encoder: Any = build_encoder(name, choice.settings, part.trained_for)
    found = matched(encoder.state_dict(), part.pretrained_weights(), encoder.classifier)
    rows = _rows(found.head, encoder.classifier[0], encoder.dim)
    return _Found(choice, part.trained_for, found.own, f"not trained here: {part.trained_on}", rows)


def _onnx(file: str, mean: Sequence[float], std: Sequence[float]) -> _Found:
    from kinshot.encoders.onnx_encoder import OnnxEncoder
    from kinshot.encoders.torchvision_model import IMAGENET

    encoder = OnnxEncoder(None, file=file)
    if encoder.normalisation is not None:
        return _Found(Choice(ONNX, {"file": file}), encoder.input, encoder.state_dict(), f"not trained here: {file}")
    told = f"{file} does not say how pixels are normalised (`mean` and `std`, JSON lists, in its metadata): taken are "
    told += f"mean {list(mean)} and std {list(std)}" if mean else "those of ImageNet"
    mean, std = (mean, std) if mean else IMAGENET
    if not len(mean) == len(std) == encoder.channels:
        raise ConfigError(
            f"{file} takes {encoder.channels} channels and does not say how pixels are normalised: write `mean` and `std`, JSON lists of "
            "as many numbers, into its metadata, or for a teacher set distill.mean and distill.std"
        )
    input = replace(encoder.input, mean=tuple(mean), std=tuple(std))
    return _Found(Choice(ONNX, {"file": file}), input, encoder.state_dict(), f"not trained here: {file}", notes=(told,))
