"""A small network for dense features of small images: fine maps, dilated residual blocks, signed features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps, walk
from kinshot.samples.pixels import PixelSpec

Norm = Literal["group", "batch"]
_GROUP = 8
"""Channels of a group of group normalisation, or a few more where the width does not divide so."""


class DilatedBlock(nn.Module):
    """Normalise, ReLU, dilated 3x3 convolution, normalise, ReLU, 1x1 convolution, beside the identity."""

    def __init__(self, width: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(width, norm), _convolution(width, width, 3, dilation=dilation)
        self.norm2, self.conv2 = _norm(width, norm), _convolution(width, width, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        y = self.conv1(self.relu(self.norm1(x)))
        return x + self.conv2(self.relu(self.norm2(y)))


@ENCODERS.register("dense_cnn")
class DenseCNN(nn.Module):
    """A small CNN for dense features of small images: stride 2 or 4, dilated residual blocks, signed features, a mean as its vector.

    One or two strided 3x3 convolutions, residual blocks with dilations 1, 2, 4, 8 and so on, and a last 1x1 convolution that nothing
    follows, so that its features have both signs, as cosines want them. With four blocks a place sees a square of 63 pixels at stride 2,
    of 127 at stride 4.

    Paper: none of its own. Dilated residual networks: Yu, Koltun, Funkhouser, 2017, arXiv 1705.09914; normalisation before the
    convolutions: He, Zhang, Ren, Sun, 2016, arXiv 1603.05027; no ReLU after the last convolution: Wang, Liew, Zou, Zhou, Feng, 2019,
    arXiv 1908.06391; group normalisation: Wu, He, 2018, arXiv 1803.08494.

    Args:
        width: channels of all stages.
        depth: blocks, each with twice the dilation of the one before it.
        stride: pixels between places of the maps.
        norm: normalisation: `group` sees one image, so that a batch of few images of one episode is as good as any; `batch` sees the batch.

    >>> from kinshot.samples.pixels import PixelSpec
    >>> encoder = kinshot.encoders.dense_cnn(PixelSpec.square(3, 64, mean=(0.5,) * 3, std=(0.5,) * 3), width=16)
    >>> encoder(torch.zeros(2, 3, 64, 64)).shape, encoder.maps(torch.zeros(2, 3, 64, 64), ["head"])[0].values.shape
    (torch.Size([2, 16]), torch.Size([2, 16, 32, 32]))
    """

    accepts = ("image",)

    def __init__(
        self,
        input: PixelSpec,
        *,
        width: int = 64,
        depth: int = 4,
        stride: Literal[2, 4] = 2,
        norm: Literal["group", "batch"] = "group",
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("depth", depth)):
            if value < 1:
                raise ConfigError(f"dense_cnn: {name} must be at least 1, got {value}")
        if stride not in (2, 4):
            raise ConfigError(f"dense_cnn: stride must be 2 or 4, got {stride}")
        strided: list[nn.Module] = [_convolution(input.channels, width, 3, stride=2)]
        if stride == 4:
            strided += [_norm(width, norm), nn.ReLU(inplace=True), _convolution(width, width, 3, stride=2)]
        self.stem = nn.Sequential(*strided)
        self.blocks = nn.Sequential(*(DilatedBlock(width, 2**number, norm) for number in range(depth)))
        self.head = nn.Sequential(_norm(width, norm), nn.ReLU(inplace=True), _convolution(width, width, 1))
        self.input, self.dim = input, width
        self.stages = ("stem", *(f"blocks.{number}" for number in range(depth)), "head")
        self.dims = dict.fromkeys(self.stages, width)
        self.strides: dict[str, int] = dict.fromkeys(self.stages, stride)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What stages give of normalised images (B, C, H, W): (B, width, H / stride, W / stride), rounded up."""
        found = walk(self, self.stages, x, stages)
        return [Maps(found[stage], self.strides[stage]) for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last stage's maps: their mean over the places."""
        return maps.values.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised images (B, C, H, W)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size but for its stride, initialised for the rectifier."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _norm(width: int, norm: Norm) -> nn.Module:
    return nn.GroupNorm(math.gcd(max(1, width // _GROUP), width), width) if norm == "group" else nn.BatchNorm2d(width)
