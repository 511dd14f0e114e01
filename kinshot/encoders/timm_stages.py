"""The stages of a timm model: those that its feature info names, and last the one that its own head pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from kinshot.encoders.maps import Maps


@dataclass(frozen=True)
class TimmStages:
    """Stages of a timm model.

    Args:
        dims: channels of every stage by the name of its module, in order; the last stage is what `forward_head` of the model pools.
        strides: pixels between neighbouring places, by name.
        positions: of every stage but the last in the model's feature info, by name.
        layout: of the last stage's output: maps with channels first or last, or a row of tokens.
        prefix: class and register tokens before the tokens of places.
    """

    dims: dict[str, int]
    strides: dict[str, int]
    positions: dict[str, int]
    layout: Literal["NCHW", "NHWC", "NLC"]
    prefix: int

    @property
    def last(self) -> str:
        """The name of the last stage."""
        return list(self.dims)[-1]

    def maps(self, model: Any, x: Tensor, wanted: Sequence[str]) -> list[Maps]:
        """Maps of the wanted stages for images (B, C, H, W), from one pass to the end of the last stage."""
        inner = sorted((self.positions[name], name) for name in set(wanted) - {self.last})
        if inner:
            final, values = model.forward_intermediates(x, indices=[position for position, _ in inner])
        else:
            final, values = model.forward_features(x), []
        found = {name: Maps(value, self.strides[name]) for (_, name), value in zip(inner, values, strict=True)}
        found[self.last] = self._last(final, x.shape[-2:])
        return [found[name] for name in wanted]

    def _last(self, final: Tensor, size: Sequence[int]) -> Maps:
        stride = self.strides[self.last]
        if self.layout != "NLC":
            return Maps(final if self.layout == "NCHW" else final.permute(0, 3, 1, 2), stride)
        tokens, grid = final[:, self.prefix :].mT, [-(-side // stride) for side in size]
        # a model whose tokens are no grid of its images keeps them in a row
        values = tokens.unflatten(2, grid) if grid[0] * grid[1] == tokens.shape[2] else tokens
        return Maps(values, stride, beside=final[:, : self.prefix].mT if self.prefix else None)

    def pool(self, model: Any, maps: Maps) -> Tensor:
        """What the model's own head makes of the last stage's maps: (B, dim)."""
        values = maps.values
        if self.layout == "NHWC":
            values = values.permute(0, 2, 3, 1)
        if self.layout == "NLC":
            values = values.flatten(2).mT
            values = values if maps.beside is None else torch.cat([maps.beside.mT, values], dim=1)
        return model.forward_head(values)


@torch.no_grad()
def stages_of_timm(model: Any, blank: Tensor, prefix: str) -> TimmStages | None:
    """What a timm model in evaluation mode has of stages, seen on blank images (B, C, H, W); None where it does not tell.

    Its last stage is the module that gave what `forward_features` returns, found by the identity of the tensor.

    Args:
        model: the model.
        blank: what it is tried on.
        prefix: what stands before the names of its modules in those of the stages, for example `model.`.
    """
    if not all(hasattr(model, name) for name in ("forward_features", "forward_head", "forward_intermediates", "feature_info")):
        return None
    final, givers = _givers(model, blank)
    info = list(model.feature_info)
    inner = model.forward_intermediates(blank, intermediates_only=True)
    modules = dict(model.named_modules())
    if not isinstance(final, Tensor) or final.ndim not in (3, 4) or not givers or len(inner) != len(info):
        return None
    told = [stage["module"] for stage in info]
    last = next((name for name in reversed(told) if name in givers), min(givers, key=len))
    kept = [place for place, name in enumerate(told) if name in modules and name != last]
    layout: Literal["NCHW", "NHWC", "NLC"] = "NLC" if final.ndim == 3 else "NHWC" if getattr(model, "output_fmt", "") == "NHWC" else "NCHW"
    dims = {prefix + told[place]: int(inner[place].shape[1]) for place in kept}
    strides = {prefix + told[place]: int(info[place]["reduction"]) for place in kept}
    dims[prefix + last] = int(final.shape[1 if layout == "NCHW" else -1])
    shrinks = 1 if layout == "NLC" else inner[-1].shape[-1] // final.shape[-1 if layout == "NCHW" else -2]
    strides[prefix + last] = int(info[-1]["reduction"]) * shrinks
    positions = {prefix + told[place]: place for place in kept}
    return TimmStages(dims, strides, positions, layout, int(getattr(model, "num_prefix_tokens", 0)) if layout == "NLC" else 0)


def _givers(model: Any, blank: Tensor) -> tuple[Any, list[str]]:
    """What `forward_features` returns, and the names of the modules that gave it."""
    given: list[tuple[str, Any]] = []

    def keep(name: str, _: Any, __: Any, output: Any) -> None:
        given.append((name, output))

    handles = [module.register_forward_hook(partial(keep, name)) for name, module in model.named_modules() if name]
    try:
        final = model.forward_features(blank)
    finally:
        for handle in handles:
            handle.remove()
    return final, [name for name, output in given if output is final]
