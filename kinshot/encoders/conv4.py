"""Conv-4: the small convolutional encoder of the few-shot literature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps, walk
from kinshot.encoders.pooled_norm import PooledNorm, StemPooledNorm
from kinshot.samples.pixels import PixelSpec

# With more input channels the patch matrix of the stem's fast path would outgrow the map that it saves.
_STEM_CHANNELS = 4


class ConvBlock(nn.Module):
    """conv 3x3 (no bias: batch norm removes it) - batch norm - ReLU - max-pool 2x2.

    Training on a CPU in one precision takes the fused step of `pooled_norm`; everything else composes the four modules.
    """

    def __init__(self, inputs: int, outputs: int, ceil_mode: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.ceil_mode = ceil_mode
        self.fused = True

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / 2, W / 2), channels-last."""
        norm = self.norm
        # the mode comes first: in evaluation mode nothing is asked of x, and torch.fx can trace the block
        if self.training and norm.training and self.fused and type(norm) is nn.BatchNorm2d and _in_one_precision_on_cpu(x):
            return self._fused(x, norm)
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 2, ceil_mode=self.ceil_mode)

    def _fused(self, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        _require_statistics(x)
        sign = torch.where(norm.weight.detach() < 0, -1.0, 1.0).to(x.dtype)
        weight, gamma = self.conv.weight * sign.view(-1, 1, 1, 1), norm.weight * sign
        if x.shape[1] <= _STEM_CHANNELS and not x.requires_grad:
            out, mean, var = StemPooledNorm.apply(x, weight, gamma, norm.bias, norm.eps, self.ceil_mode)
        else:
            weight = weight.contiguous(memory_format=torch.channels_last)
            y = F.conv2d(x, weight, padding=1)
            out, mean, var = PooledNorm.apply(y, gamma, norm.bias, norm.eps, self.ceil_mode)
        _update_running(norm, mean * sign, var, x.numel() // x.shape[1])
        return out


def _in_one_precision_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


@torch.no_grad()
def _update_running(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    rate = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, rate)
    norm.running_var.lerp_(var * (count / (count - 1)), rate)


def _require_statistics(x: Tensor) -> None:
    if x.numel() // x.shape[1] <= 1:
        raise ValueError(f"batch norm in training mode needs more than one value per channel, got input {tuple(x.shape)}")


@ENCODERS.register("conv4")
class Conv4(nn.Module):
    """Conv-4: four 3x3 convolution blocks of equal width, flattened; 256-d for 28 pixels at width 64.

    Paper: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching Networks for One Shot Learning", 2016, arXiv:1606.04080

    Args:
        width: channels of every block; 64 in the few-shot literature.
        depth: blocks; 4 in the few-shot literature. Each halves the maps, so that fewer leave larger maps and more features.
        ceil_mode: keep the last row and column of odd maps (28 pixels: 2x2 maps, 256-d); without it they are dropped (1x1, 64-d).

    >>> from kinshot.samples.pixels import PixelSpec
    >>> encoder = kinshot.encoders.conv4(PixelSpec.square(1, 28, mean=(0.5,), std=(0.5,)), width=8)
    >>> encoder(torch.zeros(3, 1, 28, 28)).shape, encoder.dim
    (torch.Size([3, 32]), 32)
    """

    accepts = ("image",)

    def __init__(self, input: PixelSpec, *, width: int = 64, depth: int = 4, ceil_mode: bool = True) -> None:
        super().__init__()
        for name, value in (("width", width), ("depth", depth)):
            if value < 1:
                raise ConfigError(f"conv4: {name} must be at least 1, got {value}")
        rows, columns = input.height, input.width
        for _ in range(depth):
            rows, columns = ((side + 1) // 2 if ceil_mode else side // 2 for side in (rows, columns))
        if min(rows, columns) < 1:
            least = min(input.height, input.width)
            raise ConfigError(f"conv4: {least} pixels are too few without ceil_mode: use at least {2**depth} or set ceil_mode")
        self.input = input
        self.dim = width * rows * columns
        self.blocks = nn.Sequential(*(ConvBlock(input.channels if i == 0 else width, width, ceil_mode) for i in range(depth)))
        self.stages = tuple(f"blocks.{i}" for i in range(depth))
        self.dims = dict.fromkeys(self.stages, width)
        self.strides = {stage: 2 ** (i + 1) for i, stage in enumerate(self.stages)}

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What blocks give of a normalised batch (B, C, H, W): (B, width, h, w), channels-last."""
        found = walk(self, self.stages, x, stages)
        return [Maps(found[stage], self.strides[stage]) for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last block's maps, flattened in (channel, row, column) order.

        Raises ConfigError for the maps of images whose halvings end at another size than those that the encoder was made for.
        """
        features = maps.values.flatten(1)
        if features.shape[1] != self.dim:
            places = "x".join(map(str, maps.values.shape[2:]))
            raise ConfigError(
                f"conv4: images ending in {places} maps give {features.shape[1]} features where {self.input.describe()} give {self.dim}: "
                f"choose a views.small_size whose {len(self.blocks)} halvings end at the same size (for 4 blocks 20 or 24 of 28 pixels)"
            )
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of a normalised batch (B, C, H, W)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])
