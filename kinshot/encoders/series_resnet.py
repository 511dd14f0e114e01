"""A residual convolutional network for windows of a sensor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.encoders.measured_norm import ConvNorm, MeasuredNorm
from kinshot.encoders.place_pooling import pooling_of
from kinshot.encoders.scaling import check_factors, last_layers, scaled
from kinshot.encoders.steps import walk_series
from kinshot.samples.series import SeriesSpec


class ResidualBlock(nn.Module):
    """Convolutions of one width, ReLU between them, beside the block's input, and ReLU behind the sum.

    The input passes a convolution of as many taps as the stride, with batch norm, where width or stride change, and batch norm alone
    where they do not.
    """

    def __init__(self, inputs: int, outputs: int, kernels: Sequence[int], stride: int) -> None:
        super().__init__()
        layers = [
            ConvNorm(outputs if number else inputs, outputs, kernel, 1 if number else stride, relu=number < len(kernels) - 1)
            for number, kernel in enumerate(kernels)
        ]
        self.layers = nn.ModuleList(layers)
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = MeasuredNorm(outputs) if same else ConvNorm(inputs, outputs, stride, stride, relu=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, ceil(T / stride)), zero where the places' `valid` is false."""
        y = x
        for layer in self.layers:
            y = layer(y, valid)
        return F.relu(y + self.shortcut(x, valid))


@ENCODERS.register("series_resnet")
class SeriesResNet(nn.Module):
    """A 1-D ResNet: blocks of three convolutions of falling length, of full resolution unless strided, averaged over the measured steps.

    Windows of any length, with NaN where nothing was measured: an invalid step adds nothing to a convolution, to a statistic or to the
    feature. A window without a measured step has a feature of zeros.

    Paper: Wang, Yan, Oates, 2017, arXiv 1611.06455 (time series classification from scratch). Departure: its batch norm takes statistics
    from measured steps alone.

    Args:
        widths: channels of every block; the last are the encoder's.
        kernels: taps of a block's convolutions.
        strides: steps between places of every block; 2 in place of 1 makes what follows twice as fast and its maps half as long.
        width: factor on all widths, for narrower versions.
        depth: factor on the number of blocks, for shallower versions; the last ones are kept, and with them the encoder's width.
        pooling: what becomes of the places: `mean`, `max` or `last`.

    >>> from kinshot.samples.series import SeriesSpec
    >>> spec = SeriesSpec(3, 128, 50.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    >>> encoder = kinshot.encoders.series_resnet(spec, width=0.25, strides=(2, 2, 1))
    >>> encoder(torch.zeros(2, 3, 128)).shape, encoder.maps(torch.zeros(2, 3, 100), encoder.stages[-1:])[0].values.shape
    (torch.Size([2, 32]), torch.Size([2, 32, 25]))
    """

    accepts = ("series",)

    def __init__(
        self,
        input: SeriesSpec,
        *,
        widths: tuple[int, ...] = (64, 128, 128),
        kernels: tuple[int, ...] = (8, 5, 3),
        strides: tuple[int, ...] = (1, 1, 1),
        width: float = 1.0,
        depth: float = 1.0,
        pooling: Literal["mean", "max", "last"] = "mean",
    ) -> None:
        super().__init__()
        _check(widths, kernels, strides)
        check_factors("encoder series_resnet", width=width, depth=depth)
        widths, strides = last_layers(widths, depth), last_layers(strides, depth)
        sizes = [input.channels, *(scaled(count, width) for count in widths)]
        blocks = zip(pairwise(sizes), strides, strict=True)
        self.blocks = nn.ModuleList(ResidualBlock(*pair, kernels, stride) for pair, stride in blocks)
        self.input, self.dim, self._pool = input, sizes[-1], pooling_of("encoder series_resnet", pooling)
        self.stages = tuple(f"blocks.{number}" for number in range(len(widths)))
        self.dims = dict(zip(self.stages, sizes[1:], strict=True))
        self.strides = dict(zip(self.stages, accumulate(strides, mul), strict=True))

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What blocks give of normalised windows (B, C, T): (B, dims[stage], T / stride) rounded up, zero at invalid places."""
        return walk_series(self, self.stages, self.strides, x, stages)

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last block: pooled over valid places, zero for a window without any."""
        return self._pool(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised windows (B, C, T)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])


def _check(widths: Sequence[int], kernels: Sequence[int], strides: Sequence[int]) -> None:
    shown = f"widths {list(widths)}, kernels {list(kernels)}, strides {list(strides)}"
    if not widths or not kernels or len(widths) != len(strides) or min(*widths, *kernels, *strides) < 1:
        raise ConfigError(f"encoder series_resnet: expected a width and a stride of at least 1 for each block, and kernels, got {shown}")
    if kernels[0] < max(strides):
        raise ConfigError(f"encoder series_resnet: a first kernel shorter than a stride skips steps, got {shown}: lengthen the kernel")
