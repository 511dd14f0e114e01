"""Any classifier of torchvision as an encoder, under torchvision's own names."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from kinshot.core.errors import ConfigError, suggest
from kinshot.encoders import ENCODERS
from kinshot.encoders.adapter import Adapter, width
from kinshot.encoders.torchvision_stages import stages_of_torchvision
from kinshot.samples.pixels import PixelSpec

_HEADS = ("fc", "classifier", "head", "heads")
_AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
"""Classifiers in the middle of a network, which only its own training uses."""


@ENCODERS.register("torchvision")
class TorchvisionModel(Adapter):
    """A model of torchvision by its name, untrained and without its last linear layer.

    The state has torchvision's own parameter names, so the saved weights load into `torchvision.models` but for the classifier;
    `named_parameters` shows them below `model`. For samples of other than three channels the first convolution is another one.

    Attributes: `classifier`, the names of the modules that are left out.

    Args:
        model: name as `torchvision.models.list_models(torchvision.models)` gives it, such as convnext_tiny; weights are never downloaded.
    """

    library = "torchvision"
    needed = "layers or features"

    def __init__(self, input: PixelSpec, *, model: str) -> None:
        made, last = _create(model)
        if input.channels != 3:
            _take_channels(made, input.channels)
        try:
            dim = width(made, input)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"encoder torchvision: {model} does not take {input.describe()} ({error}): choose another model or size"
            ) from error
        stages = stages_of_torchvision(made.eval(), input.blank(2))
        super().__init__(made.train(), dim, input, stages)
        self.classifier = (last, *_AUXILIARY.get(model, ()))


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


def library_model(name: str) -> tuple[nn.Module, tuple[str, ...], dict[str, bool]]:
    """torchvision's own model without its last linear layer, the modules that are left out of it, and what its constructor was told.

    Raises ConfigError for what is no such model.
    """
    model, last = _create(name)
    return model, (last, *_AUXILIARY.get(name, ())), _options(name)


def _options(name: str) -> dict[str, bool]:
    return {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}


def _create(name: str) -> tuple[nn.Module, str]:
    """The model without its last linear layer, and that layer's name. Raises ConfigError for what is no such model."""
    import torchvision

    _check_known(name)
    model = torchvision.models.get_model(name, weights=None, **_options(name))
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
