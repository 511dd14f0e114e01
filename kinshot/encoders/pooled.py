"""The encoder that pools the maps of another one: by mean, maximum, both, or a learned power, at one level or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import named_encoder
from kinshot.encoders.generalized_mean import generalized_mean
from kinshot.encoders.maps import Maps, place_mean
from kinshot.encoders.place_pooling import place_max
from kinshot.encoders.second_order import SecondOrder
from kinshot.objectives.common import check_above, check_choice
from kinshot.samples.spec import Spec


class Level(nn.Module):
    """What becomes of one stage's maps: attention over their places, pooling, and a linear layer, each where it is asked for.

    Args:
        dim: channels of the maps.
        pool: `mean` (GAP), `max` (GMP), `mean_max` (their sum) or `gem`, with a power of its own that is learned.
        attention: whether places attend to one another first (`SecondOrder`).
        width: features of the linear layer; 0 for none.
        power: what the power of `gem` starts at.
        eps: smallest value that `gem` counts.

    Attributes:
        dim: features.
    """

    def __init__(self, dim: int, pool: str, *, attention: bool, width: int, power: float, eps: float) -> None:
        super().__init__()
        self.pooling, self.eps, self.dim = pool, eps, width or dim
        self.attention = SecondOrder(dim) if attention else None
        self.power = nn.Parameter(torch.tensor([power])) if pool == "gem" else None
        self.linear = nn.Linear(dim, width) if width else None

    def forward(self, values: Tensor, valid: Tensor | None = None) -> Tensor:
        """Maps (B, C, *grid) after attention."""
        return values if self.attention is None else self.attention(values, valid)

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of maps after attention."""
        if self.power is not None:
            pooled = generalized_mean(maps, self.power, self.eps)
        elif self.pooling == "mean_max":
            pooled = place_mean(maps) + place_max(maps)
        else:
            pooled = (place_max if self.pooling == "max" else place_mean)(maps)
        return pooled if self.linear is None else self.linear(pooled)


@ENCODERS.register("pooled")
class Pooled(nn.Module):
    """Maps of another encoder, pooled as metric learning does: by mean, maximum, their sum, or a learned power; one stage or several.

    What the other encoder would make of its maps (flattening, class tokens) plays no part. Features of several levels stand side by
    side, in the order of `levels`; they are not brought to unit length, which objectives do. The stages are those of the other encoder
    after `trunk.`, and behind them `levels.0`, `levels.1`, ...: its maps after attention. The last of these holds beside its places the
    features of the levels before it, so that pooling it gives them all.

    The other encoder's weights are called as they are without this one, after `trunk.`: a recipe's `init=RUN` puts them there, of a run or
    a backbone (`of: auto` then means its encoder), and in code `encoder.trunk.load_state_dict(other.state_dict())`.

    Paper: GeM: Radenovic, Tolias, Chum 2017, arXiv 1711.02512; the head of AGW: Ye et al. 2020, arXiv 2001.04193; GAP + GMP of two levels
    with second-order attention: Ebrahimpour, Qian, Beach 2021, arXiv 2112.14327, which is `levels=[layer3, layer4]`, `attention`,
    `pool=mean_max` and `width` half of the embedding.

    Args:
        of: the other encoder, as text: its name and perhaps settings, `resnet18:width=0.5`.
        pool: `mean` (GAP), `max` (GMP), `mean_max` (their sum), or `gem`: the generalized mean, whose power is learned at each level.
        attention: whether places attend to one another before they are pooled.
        levels: stages of the other encoder that are pooled apart; empty for its last one.
        width: features of a linear layer of each level behind the pooling; 0 for none.
        power: what the power of `gem` starts at, above 0.
        eps: smallest value that `gem` counts, above 0.

    >>> from kinshot.samples.pixels import PixelSpec
    >>> images = PixelSpec.square(1, 28, mean=(0.5,), std=(0.5,))
    >>> encoder = kinshot.encoders.pooled(images, of="conv4:width=8", levels=("blocks.2", "blocks.3"), width=16)
    >>> encoder(torch.zeros(3, 1, 28, 28)).shape, encoder.stages[-2:]
    (torch.Size([3, 32]), ('levels.0', 'levels.1'))
    """

    accepts = ("image", "tokens", "series")

    def __init__(
        self,
        input: Spec,
        *,
        of: str = "auto",
        pool: Literal["mean", "max", "mean_max", "gem"] = "gem",
        attention: bool = False,
        levels: tuple[str, ...] = (),
        width: int = 0,
        power: float = 3.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_choice("encoder pooled: pool", pool, ("mean", "max", "mean_max", "gem"))
        check_above("encoder pooled: power", power)
        check_above("encoder pooled: eps", eps)
        if width < 0:
            raise ConfigError(f"encoder pooled: width must be at least 0, got {width}: 0 leaves what is pooled as it is")
        self.trunk = named_encoder(of, input, "conv4:width=32")
        told = getattr(self.trunk, "stages", ())
        self.pooled = _checked(levels, told, of)
        dims, strides = self.trunk.dims, self.trunk.strides
        made = [Level(dims[name], pool, attention=attention, width=width, power=power, eps=eps) for name in self.pooled]
        self.levels = nn.ModuleList(made)
        deepest = 1 + max(map(told.index, self.pooled))
        sources = {f"trunk.{name}": name for name in told[:deepest]} | {f"levels.{k}": name for k, name in enumerate(self.pooled)}
        self.stages = tuple(sources)
        self.dims = {stage: dims[name] for stage, name in sources.items()}
        self.strides = {stage: strides[name] for stage, name in sources.items()}
        self.input, self.dim = input, sum(level.dim for level in made)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What stages of the other encoder and levels give of normalised samples (B, ...), from one pass."""
        wanted = set(stages)
        last = self.stages[-1]
        numbers = [k for k in range(len(self.levels)) if last in wanted or f"levels.{k}" in wanted]
        names = {stage.removeprefix("trunk.") for stage in wanted if stage.startswith("trunk.")} | {self.pooled[k] for k in numbers}
        below = [name for name in self.trunk.stages if name in names]
        found = {f"trunk.{name}": maps for name, maps in zip(below, self.trunk.maps(x, below), strict=True)}
        for k in numbers:
            source = found[f"trunk.{self.pooled[k]}"]
            found[f"levels.{k}"] = Maps(self.levels[k](source.values, source.valid), source.stride, source.valid)
        if last in wanted and len(numbers) > 1:
            features = [self.levels[k].pool(found[f"levels.{k}"]) for k in numbers[:-1]]  # type: ignore[operator]
            end = found[last]
            found[last] = Maps(end.values, end.stride, end.valid, torch.cat(features, dim=1).unsqueeze(2))
        return [found[stage] for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last level's maps, behind those of the levels before it, which the maps hold beside their places."""
        own = self.levels[-1].pool(maps)  # type: ignore[operator]
        return own if maps.beside is None else torch.cat([maps.beside.squeeze(2), own], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised samples (B, ...)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])

    def get_submodule(self, target: str) -> nn.Module:
        """A module by its name; those of the other encoder as it calls them, after `trunk.`."""
        first, _, rest = target.partition(".")
        return self.trunk.get_submodule(rest) if first == "trunk" and rest else super().get_submodule(target)


def _checked(levels: Sequence[str], told: Sequence[str], of: str) -> tuple[str, ...]:
    """The stages that are pooled."""
    if not told:
        raise ConfigError(f"encoder pooled: {of} gives no maps to pool: choose another encoder")
    if len(set(levels)) < len(levels):
        raise ConfigError(f"encoder pooled: levels names a stage twice: {', '.join(levels)}: keep one")
    for name in levels:
        if name not in told:
            raise ConfigError(f"encoder pooled: {of} has no stage {name!r}: {suggest(name, told)}")
    return tuple(levels) or (told[-1],)
