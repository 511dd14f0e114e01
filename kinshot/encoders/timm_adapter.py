"""Any model of timm as an encoder; timm is an optional dependency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.encoders.timm_stages import TimmStages, stages_of_timm
from kinshot.samples.pixels import PixelSpec


@ENCODERS.register("timm")
class TimmEncoder(nn.Module):
    """A model of the timm library by its name, untrained and without its classifier (pip install timm).

    The state has timm's own parameter names, so the saved weights load with `timm.create_model(..., checkpoint_path=)`
    where the stem was not changed; `named_parameters` shows them below `model`.

    Args:
        model: name as `timm.list_models()` gives it, for example resnet26 or vit_tiny_patch16_224; weights are never downloaded.
    """

    accepts = ("image",)

    def __init__(self, input: PixelSpec, *, model: str) -> None:
        super().__init__()
        self.model, self.dim = _create(model, input)
        self.input = input
        self._stages = stages_of_timm(self.model.eval(), _blank(input), "")
        self.model.train()
        self.stages = () if self._stages is None else tuple(self._stages.dims)
        self.dims, self.strides = ({}, {}) if self._stages is None else (self._stages.dims, self._stages.strides)
        self.register_load_state_dict_pre_hook(_add_model_prefix)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """Maps of stages for normalised images (B, C, H, W), from one pass. Raises ConfigError for a model without `stages`."""
        return self._told().maps(self.model, x, stages)

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) that the model's own head makes of the last stage's maps. Raises ConfigError as `maps` does."""
        return self._told().pool(self.model, maps)

    def _told(self) -> TimmStages:
        if self._stages is None:
            raise ConfigError(f"encoder timm: {type(self.model).__name__} gives no maps: choose a model with forward_intermediates")
        return self._stages

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised images (B, C, H, W)."""
        return self.model(x)

    @property
    def classifier(self) -> tuple[str, ...]:
        """Names of the modules of timm's model that are left out."""
        found = getattr(self.model, "pretrained_cfg", {}).get("classifier") or ()
        return (found,) if isinstance(found, str) else tuple(found)

    def get_submodule(self, target: str) -> nn.Module:
        """A module by timm's own name, or by this adapter's."""
        return super().get_submodule(target) if target.partition(".")[0] in ("", "model") else self.model.get_submodule(target)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state under timm's own names, without the prefix of this adapter."""
        return self.model.state_dict(*args, **kwargs)


def _add_model_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Undo what `TimmEncoder.state_dict` does, before torch hands each child its share of the state."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}model.{key[len(prefix) :]}"] = state.pop(key)


def data_config(name: str) -> dict[str, Any]:
    """timm's own word on a model's images: `input_size`, `mean`, `std`, `interpolation`, `crop_pct`. Raises ConfigError as the encoder."""
    config = _timm(name).get_pretrained_cfg(name)
    from timm.data import resolve_data_config

    return dict(resolve_data_config(pretrained_cfg=config.to_dict()))


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


def _create(name: str, input: PixelSpec) -> tuple[nn.Module, int]:
    """The bare model and its width. Raises ConfigError when timm is missing, does not know the name, or the input does not suit it."""
    timm = _timm(name)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": input.channels}
    if _has_fixed_size(timm.get_pretrained_cfg(name)):
        options["img_size"] = (input.height, input.width)
    try:
        model = timm.create_model(name, pretrained=False, **options)
        return model, _width(model, input)
    except (TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError) as error:
        raise ConfigError(f"encoder timm: {name} does not take {input.describe()} ({error}): choose another model or size") from error


def _has_fixed_size(config: Any) -> bool:
    """Whether a model is built for one image size (vision transformers are), and must be told."""
    return bool(getattr(config, "fixed_input_size", False))


@torch.no_grad()
def _width(model: nn.Module, input: PixelSpec) -> int:
    """Features that the model gives, seen on a blank image: some models fail on small images only when they run."""
    width = model.eval()(_blank(input)).shape[-1]
    model.train()
    return int(width)


def _blank(input: PixelSpec) -> Tensor:
    return torch.zeros(1, *input.shape)
