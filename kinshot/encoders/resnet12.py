"""ResNet-12, the residual network of the few-shot literature."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps, walk
from kinshot.encoders.scaling import check_factors, scaled
from kinshot.samples.pixels import PixelSpec

SLOPE = 0.1
"""Slope of the leaky rectifier below zero."""


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 shortcut, then 2x2 max-pooling: (B, C, H, W) to (B, width, H // 2, W // 2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(channels, width, 3), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _convolution(width, width, 3), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _convolution(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = nn.Sequential(_convolution(channels, width, 1), nn.BatchNorm2d(width))
        self.relu = nn.LeakyReLU(SLOPE)
        self.maxpool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output for a batch of maps."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.maxpool(self.relu(y + self.downsample(x)))


@ENCODERS.register("resnet12")
class ResNet12(nn.Module):
    """ResNet-12 of the few-shot literature: four residual blocks of three convolutions, averaged.

    Paper: Oreshkin, Rodriguez Lopez, Lacoste, 2018, arXiv 1805.10123 (TADAM), whose widths are the default; the leaky
    rectifier and the wide variant are those of Lee, Maji, Ravichandran, Soatto, 2019, arXiv 1904.03758 (MetaOptNet).

    No dropout and no DropBlock, which MetaOptNet trains with: their masks come from a stream of random numbers, and a
    resumed run could not continue bit for bit. MetaOptNet flattens the last map; here it is averaged, as most later work does.

    Args:
        widths: channels of the four blocks; (64, 160, 320, 640) is the common wide variant.
        width: factor on all channels, for narrower versions.
        depth: blocks kept, the first ones; fewer than four halve the maps less often and end at a smaller width.

    >>> from kinshot.samples.pixels import PixelSpec
    >>> encoder = kinshot.encoders.resnet12(PixelSpec.square(1, 16, mean=(0.5,), std=(0.5,)), widths=(4, 4, 8, 8))
    >>> encoder(torch.zeros(3, 1, 16, 16)).shape
    torch.Size([3, 8])
    """

    accepts = ("image",)

    def __init__(
        self, input: PixelSpec, *, widths: tuple[int, int, int, int] = (64, 128, 256, 512), width: float = 1.0, depth: int = 4
    ) -> None:
        super().__init__()
        if min(widths) < 1:
            raise ConfigError(f"encoder resnet12: widths must be positive, got {list(widths)}: try [64, 160, 320, 640]")
        check_factors("encoder resnet12", width=width)
        if not 1 <= depth <= len(widths):
            raise ConfigError(f"encoder resnet12: depth counts blocks, from 1 to {len(widths)}, got {depth}")
        smallest = 2**depth  # every block halves the maps, and one pixel must be left
        least = min(input.height, input.width)
        if least < smallest:
            raise ConfigError(
                f"encoder resnet12 halves the image {depth} times and needs {smallest} pixels, got {least}: enlarge the images or use conv4"
            )
        channels = (input.channels, *(scaled(count, width) for count in widths[:depth]))
        self.stages = tuple(f"layer{number}" for number in range(1, depth + 1))
        for stage, (before, after) in zip(self.stages, pairwise(channels), strict=True):
            self.add_module(stage, ResidualBlock(before, after))
        self.input = input
        self.dim = channels[-1]
        self.dims = dict(zip(self.stages, channels[1:], strict=True))
        self.strides = {stage: 2 ** (number + 1) for number, stage in enumerate(self.stages)}

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What blocks give of normalised images (B, C, H, W): (B, dims[stage], H // strides[stage], W // strides[stage])."""
        found = walk(self, self.stages, x, stages)
        return [Maps(found[stage], self.strides[stage]) for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last block's maps: their mean over the places."""
        return maps.values.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised images (B, C, H, W)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])


def _convolution(channels: int, width: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the size, for batch normalisation to follow; initialised for the leaky rectifier."""
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, a=SLOPE, mode="fan_out", nonlinearity="leaky_relu")
    return convolution
