"""Any model of timm as an encoder; timm is an optional dependency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from kinshot.core.errors import ConfigError, suggest
from kinshot.encoders import ENCODERS
from kinshot.encoders.adapter import Adapter, width
from kinshot.encoders.dilation import check_output_stride
from kinshot.encoders.timm_stages import stages_of_timm
from kinshot.samples.pixels import INTERPOLATIONS, PixelSpec


@ENCODERS.register("timm")
class TimmEncoder(Adapter):
    """A model of the timm library by its name, untrained and without its classifier (pip install timm).

    The state has timm's own parameter names, so the saved weights load with `timm.create_model(..., checkpoint_path=)`
    where the stem was not changed; `named_parameters` shows them below `model`.

    Args:
        model: name as `timm.list_models()` gives it, for example resnet26 or vit_tiny_patch16_224; weights are never downloaded.
        output_stride: pixels between places of the last map, at most; models that timm dilates take less than 32, with the same weights.
        patch: side in pixels of a vision transformer's patches, which small images want smaller; 0 is the model's own.
    """

    library = "timm"
    needed = "forward_intermediates"

    def __init__(self, input: PixelSpec, *, model: str, output_stride: Literal[32, 16, 8] = 32, patch: int = 0) -> None:
        made, dim = _create(model, input, output_stride, patch)
        stages = stages_of_timm(made.eval(), torch.zeros(1, *input.shape), "")
        super().__init__(made.train(), dim, input, stages)

    @property
    def classifier(self) -> tuple[str, ...]:
        """Names of the modules of timm's model that are left out."""
        return _classifier(self.model)


def data_config(name: str) -> dict[str, Any]:
    """timm's own word on a model's images: `input_size`, `mean`, `std`, `interpolation`, `crop_pct`. Raises ConfigError as the encoder."""
    config = _timm(name).get_pretrained_cfg(name)
    from timm.data import resolve_data_config

    return dict(resolve_data_config(pretrained_cfg=config.to_dict()))


def input_of_model(model: Any) -> PixelSpec | None:
    """The images that a model of timm, held in memory, was made for, by timm's own data config; None for any other model."""
    config = _config_of(model)
    if config is None:
        return None
    channels, height, width = config["input_size"]
    filter = config["interpolation"] if config["interpolation"] in INTERPOLATIONS else "bicubic"
    return PixelSpec(channels, height, width, tuple(map(float, config["mean"])), tuple(map(float, config["std"])), filter)


def transform_of_model(model: Any) -> Any:
    """How timm makes a tensor of a picture to evaluate this model of its own; None for any other model."""
    config = _config_of(model)
    if config is None:
        return None
    from timm.data import create_transform

    return create_transform(**config)


def _config_of(model: Any) -> dict[str, Any] | None:
    if not hasattr(model, "pretrained_cfg") or not hasattr(model, "forward_head"):
        return None
    from timm.data import resolve_model_data_config

    return dict(resolve_model_data_config(model))


def library_model(name: str, options: Mapping[str, Any]) -> tuple[nn.Module, tuple[str, ...]]:
    """timm's own model, untrained and without its classifier, made with these options, and the modules that are left out of it.

    Raises ConfigError as the encoder.
    """
    model = _timm(name).create_model(name, pretrained=False, num_classes=0, **options)
    return model, _classifier(model)


def fixed_size(name: str) -> bool:
    """Whether a model is built for one image size, and must be told which. Raises ConfigError as the encoder."""
    return _has_fixed_size(_timm(name).get_pretrained_cfg(name))


def _classifier(model: nn.Module) -> tuple[str, ...]:
    found = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    return (found,) if isinstance(found, str) else tuple(found)


def _timm(name: str) -> Any:
    """The library, where it is installed and knows the model; else raises ConfigError."""
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ConfigError("encoder timm needs the package timm, which is not installed: run pip install timm") from error
    if not timm.is_model(name):
        raise ConfigError(f"encoder timm: unknown model {name!r}: {suggest(name, timm.list_models())}")
    return timm


def _create(name: str, input: PixelSpec, output_stride: int, patch: int) -> tuple[nn.Module, int]:
    """The bare model and its width. Raises ConfigError without timm, for a name that it does not know, and for what does not suit it."""
    timm = _timm(name)
    if not 0 <= patch <= min(input.height, input.width):
        raise ConfigError(f"encoder timm: patch is at most the side of {input.describe()}, 0 for the model's own, got {patch}")
    check_output_stride("encoder timm", output_stride)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": input.channels}
    if output_stride != 32:  # most models have no such option
        options["output_stride"] = output_stride
    if patch:  # nor this one
        options["patch_size"] = patch
    if _has_fixed_size(timm.get_pretrained_cfg(name)):
        options["img_size"] = (input.height, input.width)
    try:
        model = timm.create_model(name, pretrained=False, **options)
        return model, width(model, input)
    except (TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError) as error:
        stride = (f" at output stride {output_stride}" if output_stride != 32 else "") + (f" in patches of {patch}" if patch else "")
        raise ConfigError(
            f"encoder timm: {name} does not take {input.describe()}{stride} ({error}): choose another model or size"
        ) from error


def _has_fixed_size(config: Any) -> bool:
    """Whether a model is built for one image size (vision transformers are), and must be told."""
    return bool(getattr(config, "fixed_input_size", False))
