"""Any classifier of torchvision as an encoder, under torchvision's own names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.encoders.torchvision_stages import TorchvisionStages, stages_of_torchvision
from kinshot.samples.pixels import PixelSpec

_HEADS = ("fc", "classifier", "head", "heads")
_AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
"""Classifiers in the middle of a network, which only its own training uses."""


@ENCODERS.register("torchvision")
class TorchvisionModel(nn.Module):
    """A model of torchvision by its name, untrained and without its last linear layer.

    The state has torchvision's own parameter names, so the saved weights load into `torchvision.models` but for the classifier;
    `named_parameters` shows them below `model`. For samples of other than three channels the first convolution is another one.

    Attributes: `classifier`, the names of the modules that are left out.

    Args:
        model: name as `torchvision.models.list_models(torchvision.models)` gives it, such as convnext_tiny; weights are never downloaded.
    """

    accepts = ("image",)

    def __init__(self, input: PixelSpec, *, model: str) -> None:
        super().__init__()
        self.model, last = _create(model)
        self.classifier = (last, *_AUXILIARY.get(model, ()))
        self.input = input
        if input.channels != 3:
            _take_channels(self.model, input.channels)
        try:
            self.dim = _width(self.model, input)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"encoder torchvision: {model} does not take {input.describe()} ({error}): choose another model or size"
            ) from error
        self._stages = stages_of_torchvision(self.model.eval(), input.blank(2))
        self.model.train()
        self.stages = () if self._stages is None else tuple(self._stages.dims)
        self.dims, self.strides = ({}, {}) if self._stages is None else (self._stages.dims, self._stages.strides)
        self.register_load_state_dict_pre_hook(_add_model_prefix)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """Maps of stages for normalised images (B, C, H, W), from one pass. Raises ConfigError for a model without `stages`."""
        return self._told().maps(self.model, x, stages)

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) that the model makes of the last stage's maps. Raises ConfigError as `maps` does."""
        return self._told().pool(self.model, maps)

    def _told(self) -> TorchvisionStages:
        if self._stages is None:
            raise ConfigError(f"encoder torchvision: {type(self.model).__name__} gives no maps: choose a model with layers or features")
        return self._stages

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised images (B, C, H, W)."""
        return self.model(x)

    def get_submodule(self, target: str) -> nn.Module:
        """A module by torchvision's own name, or by this adapter's."""
        return super().get_submodule(target) if target.partition(".")[0] in ("", "model") else self.model.get_submodule(target)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state under torchvision's own names, without the prefix of this adapter."""
        return self.model.state_dict(*args, **kwargs)


def _add_model_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Undo what `state_dict` does, before torch hands each child its share of the state."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}model.{key[len(prefix) :]}"] = state.pop(key)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that nearly all of torchvision's weights were trained with."""


class DataConfig(NamedTuple):
    """Images as a model's weights expect them: side, side before the margin is cut off, mean, standard deviation, filter."""

    size: int
    resized: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


def data_config(name: str, file: str = "") -> DataConfig:
    """torchvision's own word on a model's images: of the weights that are published under a file's name, else of the newest ones.

    Raises ConfigError for a model that it does not have.
    """
    import torchvision

    _check_known(name)
    published = list(torchvision.models.get_model_weights(name))
    if not published:
        return DataConfig(224, 224, *IMAGENET, "bilinear")
    stem = file.rpartition(".")[0]
    newest = torchvision.models.get_model_weights(name).DEFAULT
    chosen = next((one for one in published if stem and stem in one.url), newest)
    t: Any = chosen.transforms()
    return DataConfig(t.crop_size[0], max(t.resize_size[0], t.crop_size[0]), tuple(t.mean), tuple(t.std), t.interpolation.value)


def _check_known(name: str) -> None:
    import torchvision

    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        raise ConfigError(f"encoder torchvision: unknown model {name!r}: {suggest(name, known)}")


def _create(name: str) -> tuple[nn.Module, str]:
    """The model without its last linear layer, and that layer's name. Raises ConfigError for what is no such model."""
    import torchvision

    _check_known(name)
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    for head in _HEADS:
        found = getattr(model, head, None)
        if isinstance(found, nn.Linear):
            setattr(model, head, nn.Identity())
            return model, head
        if isinstance(found, nn.Sequential) and isinstance(found[-1], nn.Linear):
            last = list(dict(found.named_children()))[-1]
            found[-1] = nn.Identity()
            return model, f"{head}.{last}"
    raise ConfigError(f"encoder torchvision: {name} does not end in a linear classifier: choose another model")


def _take_channels(model: nn.Module, channels: int) -> None:
    """Put a first convolution of so many channels in the place of the one of three."""
    name, first = next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    where, _, last = name.rpartition(".")
    shape: dict[str, Any] = {key: getattr(first, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    setattr(model.get_submodule(where), last, nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **shape))


@torch.no_grad()
def _width(model: nn.Module, input: PixelSpec) -> int:
    """Features that the model gives, seen on a blank image: some models fail on small images only when they run."""
    width = model.eval()(torch.zeros(1, *input.shape)).shape[-1]
    model.train()
    return int(width)
