"""A transformer over patches of a sensor's window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import pooling_of
from kinshot.encoders.steps import cells, convolve, measured
from kinshot.encoders.text_transformer import Block
from kinshot.samples.series import SeriesSpec

_INITIAL_STD = 0.02  # of BERT


@ENCODERS.register("patch_transformer")
class PatchTransformer(nn.Module):
    """A transformer over patches of a window: as many steps at a time are one token, which attends to the tokens that were measured.

    A patch is valid where any of its steps was measured; invalid ones are neither attended to nor pooled. A window without a measured step
    has a feature of zeros. Windows may be shorter than those that the encoder was made for, and not longer, as positions are learned.

    Paper: patches of a series as tokens and learned positions: Nie, Nguyen, Sinthong, Kalagnanam, 2022, arXiv 2211.14730 (PatchTST); here
    patches do not overlap and hold all channels, layers normalise first and over the channels of a token alone (in place of batch norm),
    without dropout, whose masks would not be keyed.

    Args:
        patch: steps of a patch.
        width: features of a patch, and of the window; less for a narrower version.
        layers: transformer layers; fewer for a shallower version.
        heads: attention heads of a layer, a divisor of `width`.
        expansion: the layers' perceptrons are so many times as wide.
        pooling: what becomes of the patches: `mean`, `max` or `last`.

    >>> from kinshot.samples.series import SeriesSpec
    >>> spec = SeriesSpec(3, 128, 50.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    >>> encoder = kinshot.encoders.patch_transformer(spec, patch=16, width=32, layers=1)
    >>> encoder(torch.zeros(2, 3, 128)).shape, encoder.maps(torch.zeros(2, 3, 100), ["norm"])[0].values.shape
    (torch.Size([2, 32]), torch.Size([2, 32, 7]))
    """

    accepts = ("series",)

    def __init__(
        self,
        input: SeriesSpec,
        *,
        patch: int = 8,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        expansion: int = 4,
        pooling: Literal["mean", "max", "last"] = "mean",
    ) -> None:
        super().__init__()
        if min(patch, width, layers, heads, expansion) < 1 or width % heads:
            raise ConfigError(
                f"encoder patch_transformer: patch, width, layers, heads and expansion must be at least 1 and heads divide width, got "
                f"patch {patch}, width {width}, layers {layers}, heads {heads}, expansion {expansion}: try patch 8, width 128 and heads 4"
            )
        self.input, self.dim, self._pool = input, width, pooling_of("encoder patch_transformer", pooling)
        self.patches = nn.Conv1d(input.channels, width, patch, patch)
        self.positions = nn.Parameter(torch.empty(-(-input.length // patch), width))
        nn.init.trunc_normal_(self.positions, std=_INITIAL_STD)
        self.blocks = nn.ModuleList(Block(width, heads, expansion * width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.stages = (*(f"blocks.{number}" for number in range(layers)), "norm")
        self.dims, self.strides = dict.fromkeys(self.stages, width), dict.fromkeys(self.stages, patch)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What layers and the last normalisation give of every patch of normalised windows (B, C, T): (B, dim, T / patch) rounded up.

        Values are zero at invalid patches. Raises ConfigError beyond the longest window.
        """
        if x.shape[2] > self.input.length:
            raise ConfigError(f"encoder patch_transformer was made for {self.input.length} steps, got {x.shape[2]}: cut the windows")
        x, valid = measured(x)
        (patch,) = self.patches.stride
        valid = cells(valid, patch)
        # a window of nothing looks at its first patch, as attention to nothing is not a number
        visible = valid.clone()
        visible[:, :1] |= ~valid.any(dim=1, keepdim=True)
        tokens = convolve(x, self.patches, before=0).mT
        tokens, found = tokens + self.positions[: tokens.shape[1]], {}
        for stage in self.stages[: 1 + max(map(self.stages.index, stages))]:
            tokens = self.norm(tokens) if stage == "norm" else self.get_submodule(stage)(tokens, visible[:, None, None, :])
            if stage in stages:
                found[stage] = Maps(tokens.masked_fill(~valid.unsqueeze(2), 0.0).mT, patch, valid)
        return [found[stage] for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last normalisation: pooled over valid patches, zero for a window without any."""
        return self._pool(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised windows (B, C, T)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])
