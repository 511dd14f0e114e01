"""The residual networks of torchvision, with a stem for small images, any number of channels, and no classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from kinshot.encoders import ENCODERS
from kinshot.encoders.dilation import check_output_stride, dilate_
from kinshot.encoders.maps import Maps, walk
from kinshot.encoders.scaling import check_factors, scaled
from kinshot.encoders.stems import Stem, stem_for
from kinshot.samples.pixels import PixelSpec


class TorchvisionResNet(ResNet):
    """A torchvision residual network as an encoder: (B, C, H, W) to (B, dim) averaged features.

    Parameter names are torchvision's (timm uses the same), less `fc`: with the ImageNet stem and three channels the saved
    weights load into `torchvision.models` or timm as they are; the small stem has a 3x3 `conv1`, for which the model that
    loads them must be changed likewise. So are names, but not sizes, of narrower and shallower versions.

    Paper: He, Zhang, Ren, Sun, 2016, arXiv 1512.03385. The small stem is that of its CIFAR networks, as SimCLR uses it
    (Chen, Kornblith, Norouzi, Hinton, 2020, arXiv 2002.05709, appendix B.9).

    Args:
        block: kind of residual block.
        layers: blocks in each of the four stages.
        input: pixels that the encoder is made for.
        stem: "imagenet" for a 7x7 stride-2 convolution and max-pooling, "small" for a 3x3 stride-1 convolution without,
            "auto" for the small one on images below 64 pixels.
        width: factor on all channels; the four stages of the original start from 64, 128, 256 and 512.
        depth: factor on the blocks of each stage, of which at least one is left.
        output_stride: pixels between places of the last map, at most; stages that would go beyond it are dilated.
    """

    accepts = ("image",)
    stages = ("layer1", "layer2", "layer3", "layer4")

    def __init__(
        self, block: type[BasicBlock | Bottleneck], layers: list[int], input: PixelSpec, stem: Stem, width: float = 1.0, depth: float = 1.0,
        output_stride: int = 32,
    ) -> None:  # fmt: skip
        check_factors("encoder resnet", width=width, depth=depth)
        check_output_stride("encoder resnet", output_stride)
        layers = [scaled(count, depth) for count in layers]
        # torchvision's constructor has no factor on channels: what it builds is replaced, and is therefore kept small
        super().__init__(block, layers if width == 1 else [1, 1, 1, 1])
        if width != 1:
            self._resize(block, layers, width)
        small = (stem_for(input.side) if stem == "auto" else stem) == "small"
        if small or input.channels != 3 or width != 1:
            self.conv1 = _stem_convolution(input.channels, small, self.bn1.num_features)
        if small:
            self.maxpool = nn.Identity()  # type: ignore[assignment]
        self.dim: int = scaled(512, width) * block.expansion
        del self.fc
        self.input = input
        self.dims = {stage: scaled(64 * 2**number, width) * block.expansion for number, stage in enumerate(self.stages)}
        strides = {stage: 2**number * (1 if small else 4) for number, stage in enumerate(self.stages)}
        self.strides = strides if output_stride >= max(strides.values()) else dilate_(self, strides, output_stride)

    def _resize(self, block: type[BasicBlock | Bottleneck], layers: list[int], width: float) -> None:
        """Put stages with scaled channels, initialised like torchvision's, in the place of the original ones."""
        stem, *planes = (scaled(count, width) for count in (64, 64, 128, 256, 512))
        self.inplanes, self.bn1 = stem, nn.BatchNorm2d(stem)
        for number, (count, blocks) in enumerate(zip(planes, layers, strict=True), 1):
            stage = self._make_layer(block, count, blocks, stride=1 if number == 1 else 2)
            for module in stage.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            setattr(self, f"layer{number}", stage)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What stages give of normalised images (B, C, H, W): (B, dims[stage], H / strides[stage], W / strides[stage]), rounded up."""
        found = walk(self, self.stages, self.maxpool(self.relu(self.bn1(self.conv1(x)))), stages)
        return [Maps(found[stage], self.strides[stage]) for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last stage's maps: their mean over the places."""
        return torch.flatten(self.avgpool(maps.values), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised images (B, C, H, W)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])


@ENCODERS.register("resnet18")
class ResNet18(TorchvisionResNet):
    """ResNet-18 with torchvision's parameter names (512 features).

    Paper: He, Zhang, Ren, Sun, 2016, arXiv 1512.03385

    Args:
        stem: "imagenet" (7x7 stride 2, max-pool; loads in torchvision and timm as it is), "small" (3x3 stride 1: keeps detail,
            costs 16 times as much), or "auto": small below 64 pixels.
        width: factor on all channels, for narrower versions.
        depth: factor on the blocks of each stage, for shallower versions; at least one is left.
        output_stride: pixels between places of the last map, at most; stages that would go beyond it keep the size of their maps and are
            dilated, with the same weights. The small stem ends at 8 by itself.

    >>> from kinshot.samples.pixels import PixelSpec
    >>> encoder = kinshot.encoders.resnet18(PixelSpec.square(3, 32, mean=(0.5,) * 3, std=(0.5,) * 3), width=0.125)
    >>> encoder(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 64])
    """

    def __init__(
        self, input: PixelSpec, *, stem: Literal["auto", "imagenet", "small"] = "auto", width: float = 1.0, depth: float = 1.0,
        output_stride: Literal[32, 16, 8] = 32,
    ) -> None:  # fmt: skip
        super().__init__(BasicBlock, [2, 2, 2, 2], input, stem, width, depth, output_stride)


@ENCODERS.register("resnet50")
class ResNet50(TorchvisionResNet):
    """ResNet-50 with torchvision's parameter names (2048 features).

    Paper: He, Zhang, Ren, Sun, 2016, arXiv 1512.03385

    Args:
        stem: "imagenet" (7x7 stride 2, max-pool; loads in torchvision and timm as it is), "small" (3x3 stride 1: keeps detail,
            costs 16 times as much), or "auto": small below 64 pixels.
        width: factor on all channels, for narrower versions.
        depth: factor on the blocks of each stage, for shallower versions; at least one is left.
        output_stride: pixels between places of the last map, at most; stages that would go beyond it keep the size of their maps and are
            dilated, with the same weights. The small stem ends at 8 by itself.
    """

    def __init__(
        self, input: PixelSpec, *, stem: Literal["auto", "imagenet", "small"] = "auto", width: float = 1.0, depth: float = 1.0,
        output_stride: Literal[32, 16, 8] = 32,
    ) -> None:  # fmt: skip
        super().__init__(Bottleneck, [3, 4, 6, 3], input, stem, width, depth, output_stride)


def _stem_convolution(channels: int, small: bool, width: int = 64) -> nn.Conv2d:
    """The first convolution, initialised like torchvision's."""
    kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
    convolution = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
