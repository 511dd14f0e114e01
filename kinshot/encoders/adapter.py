"""What the adapters of other libraries' models share: the model's own names, its stages as maps, its width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders.maps import Maps
from kinshot.samples.pixels import PixelSpec


class Stages(Protocol):
    """How a library's model gives maps: channels and strides by stage, maps of stages in one pass, and features of the last one's."""

    @property
    def dims(self) -> dict[str, int]: ...  # noqa: D102 - the class says it

    @property
    def strides(self) -> dict[str, int]: ...  # noqa: D102 - the class says it

    def maps(self, model: nn.Module, x: Tensor, stages: Sequence[str]) -> list[Maps]: ...  # noqa: D102 - the class says it

    def pool(self, model: nn.Module, maps: Maps) -> Tensor: ...  # noqa: D102 - the class says it


class Adapter(nn.Module):
    """Another library's model as an encoder of images.

    The state has the library's own parameter names; `named_parameters` shows them below `model`.

    Args:
        model: gives features (B, dim), without its classifier.
        dim: numbers in a feature.
        input: what it was made for.
        stages: how it gives maps; None for a model that gives none.
    """

    accepts = ("image",)
    library: ClassVar[str]
    """What messages call the encoder."""
    needed: ClassVar[str]
    """What a model must have to give maps."""

    def __init__(self, model: nn.Module, dim: int, input: PixelSpec, stages: Stages | None) -> None:
        super().__init__()
        self.model, self.dim, self.input, self._stages = model, dim, input, stages
        self.stages: tuple[str, ...] = () if stages is None else tuple(stages.dims)
        self.dims, self.strides = ({}, {}) if stages is None else (stages.dims, stages.strides)
        self.register_load_state_dict_pre_hook(_add_model_prefix)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised images (B, C, H, W)."""
        return self.model(x)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """Maps of stages for normalised images (B, C, H, W), from one pass. Raises ConfigError for a model without `stages`."""
        return self._told().maps(self.model, x, stages)

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) that the model makes of the last stage's maps. Raises ConfigError as `maps` does."""
        return self._told().pool(self.model, maps)

    def get_submodule(self, target: str) -> nn.Module:
        """A module by the library's own name, or by this adapter's."""
        return super().get_submodule(target) if target.partition(".")[0] in ("", "model") else self.model.get_submodule(target)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state under the library's own names, without the prefix of this adapter."""
        return self.model.state_dict(*args, **kwargs)

    def _told(self) -> Stages:
        if self._stages is None:
            raise ConfigError(f"encoder {self.library}: {type(self.model).__name__} gives no maps: choose a model with {self.needed}")
        return self._stages


@torch.no_grad()
def width(model: nn.Module, input: PixelSpec) -> int:
    """Features that a model gives, seen on a blank image: some models fail on small images only when they run."""
    found = model.eval()(torch.zeros(1, *input.shape)).shape[-1]
    model.train()
    return int(found)


def _add_model_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Undo what `Adapter.state_dict` does, before torch hands each child its share of the state."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}model.{key[len(prefix) :]}"] = state.pop(key)
