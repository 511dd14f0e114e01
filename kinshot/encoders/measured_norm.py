"""Batch normalisation of series that takes its statistics from measured steps alone, and a convolution with it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.encoders.steps import SeriesConv, masked


class MeasuredNorm(nn.Module):
    """Batch normalisation over the valid places of a batch; what is no place is zero behind it.

    Why this one: padding in the statistics would let a short window's length into everybody's features, and a norm over the time of one
    window, or over the channels of one step, would take away how strong a movement is, which tells activities apart. In evaluation mode it
    is one affine map for each channel: it looks at no other sample and at no other time, so that it is causal as well.

    A training batch with less than two valid places has no spread and is normalised by the running statistics, as in evaluation mode; they
    stay as they are.

    Args:
        width: channels.

    Paper: Ioffe, Szegedy, 2015, arXiv 1502.03167; leaving out what is masked is ours.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, width, T) to the same, by the statistics of the columns where `valid`, bool (B, T), is true; zero elsewhere."""
        norm = self.norm
        if not norm.training:
            return masked(norm(x), valid)
        count = int(valid.sum())
        if count == valid.numel() > 1:
            return norm(x)
        if count < 2:
            return masked(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps), valid)
        columns = x.mT
        return columns.new_zeros(columns.shape).masked_scatter(valid.unsqueeze(2), norm(columns[valid])).mT


class ConvNorm(nn.Module):
    """Convolution along time (no bias: the norm removes it) - batch norm over valid places - ReLU, or none.

    Args:
        inputs: channels before.
        outputs: channels behind.
        kernel: taps.
        stride: steps between places.
        relu: whether ReLU follows.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool) -> None:
        super().__init__()
        self.conv = SeriesConv(inputs, outputs, kernel, stride=stride, bias=False)
        self.norm = MeasuredNorm(outputs)
        self.relu = relu

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, inputs, T), zero at invalid steps, to (B, outputs, ceil(T / stride)), zero where the places' `valid` is false."""
        y = self.norm(self.conv.unmasked(x), valid)
        return F.relu(y) if self.relu else y
