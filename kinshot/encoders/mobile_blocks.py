"""Blocks of mobile networks: a depthwise convolution between pointwise ones. Parameters have timm's names."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3
"""What batch normalisation adds to variances, as TensorFlow does."""


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow pads: ceil(side / stride) places, an odd pixel of padding right and below.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: its side, an odd number.
        stride: pixels between places.
        dilation: pixels between what it looks at; 1 where it strides.
        groups: of channels.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> None:
        even = dilation * (kernel // 2) if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, even, dilation, groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, outputs, ceil(H / stride), ceil(W / stride)) of maps (B, inputs, H, W)."""
        (step, _), (kernel, _) = self.stride, self.kernel_size
        if step > 1:
            rows, columns = (max(0, kernel - (side % step or step)) for side in x.shape[-2:])
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(x)


class NormReLU6(nn.BatchNorm2d):
    """Batch normalisation, and ReLU6 of what it gives."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same shape, in [0, 6]."""
        return F.relu6(super().forward(x), inplace=True)


class MobileBlock(nn.Sequential):
    """An inverted residual: channels grow, a depthwise convolution sees each by itself, and they shrink without an activation.

    Where nothing grows (expansion 1), the first pointwise convolution is left out. Where the maps keep their shape, they are added.

    Paper: Sandler, Howard, Zhu, Zhmoginov, Chen, 2018, arXiv 1801.04381 (MobileNetV2).

    Args:
        inputs: channels.
        outputs: channels.
        kernel: side of the depthwise convolution.
        stride: of the depthwise convolution.
        dilation: of the depthwise convolution.
        expansion: how many times as many channels it has as the inputs.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, dilation: int, expansion: int) -> None:
        wide, layers = inputs * expansion, OrderedDict[str, nn.Module]()
        if expansion > 1:
            layers |= {"conv_pw": SameConv(inputs, wide, 1), "bn1": NormReLU6(wide)}
        depthwise = SameConv(wide, wide, kernel, stride=stride, dilation=dilation, groups=wide)
        shrink, last = ("conv_pwl", "bn3") if expansion > 1 else ("conv_pw", "bn2")
        layers |= {"conv_dw": depthwise, "bn2" if expansion > 1 else "bn1": NormReLU6(wide)}
        layers |= {shrink: SameConv(wide, outputs, 1), last: nn.BatchNorm2d(outputs, eps=EPS)}
        super().__init__(layers)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, outputs, ceil(H / stride), ceil(W / stride)) of maps (B, inputs, H, W)."""
        found: Tensor = super().forward(x)
        return found + x if self.skips else found
