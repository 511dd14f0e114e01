"""What encoders of series share: which steps were measured, convolutions that leave the others out, and the walk through stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders.maps import Maps


def measured(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised series (B, C, T) as numbers, and their valid steps.

    Returns:
        The values with 0, which is the mean, where nothing was measured (NaN), and bool (B, T): steps at which any channel was.
    """
    gaps = x.isnan()
    return x.masked_fill(gaps, 0.0), ~gaps.all(dim=1)


def masked(x: Tensor, valid: Tensor) -> Tensor:
    """(B, C, T) with zeros where `valid`, bool (B, T), is false, whatever was there, and no gradient to there."""
    return x.masked_fill(~valid.unsqueeze(1), 0.0)


def cells(valid: Tensor, stride: int) -> Tensor:
    """Which of the places ceil(T / stride) are valid: those with any valid step among the `stride` steps from theirs on."""
    if stride == 1:
        return valid
    return F.pad(valid, (0, -valid.shape[1] % stride)).unflatten(1, (-1, stride)).any(dim=2)


def convolve(x: Tensor, conv: nn.Conv1d, before: int) -> Tensor:
    """A convolution whose place j stands at step j stride and whose first tap is `before` steps earlier; zeros beyond both ends.

    Taps that no place of this series has inside it are left out, so that wide dilations cost a short series nothing.

    Args:
        x: (B, C, T) with T at least 1.
        conv: the weights, stride and dilation.
        before: steps between a place's first tap and its own step.

    Returns:
        (B, D, ceil(T / stride)).
    """
    (stride,), (dilation,), last = conv.stride, conv.dilation, x.shape[2] - 1
    low = max(0, -(-(before - last) // dilation))
    high = min(conv.kernel_size[0] - 1, (before + last) // dilation)
    before -= low * dilation
    after = last // stride * stride + (high - low) * dilation - before - last
    return F.conv1d(F.pad(x, (before, after)), conv.weight[:, :, low : high + 1], conv.bias, stride, dilation=dilation)


class SeriesConv(nn.Module):
    """A convolution along time: of every cell of `stride` steps with what is around it, or, causal, of a step with what came before.

    Place j of the causal one stands at step j stride and has its last tap there: it is known as soon as that step is.

    Args:
        inputs: channels before.
        outputs: channels behind.
        kernel_size: taps, at least `stride`, so that every step is seen.
        stride: steps between places.
        dilation: steps between taps.
        causal: whether nothing of later steps is seen.
        bias: whether a bias is added.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, dilation: int = 1, causal: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel_size, stride, dilation=dilation, bias=bias)
        reach = (kernel_size - 1) * dilation
        self.before = reach if causal else (reach + 1 - stride) // 2

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, inputs, T), zero at invalid steps, to (B, outputs, ceil(T / stride)), zero where the places' `valid` is false."""
        return masked(self.unmasked(x), valid)

    def unmasked(self, x: Tensor) -> Tensor:
        """`forward` with anything at invalid places, for what leaves them out by itself."""
        return convolve(x, self.conv, self.before)

    def start(self, streams: int) -> Tensor:
        """What `step` remembers before anything came: zeros (streams, inputs, before)."""
        weight = self.conv.weight
        return weight.new_zeros(streams, weight.shape[1], self.before)

    def step(self, x: Tensor, valid: Tensor, tail: Tensor, seen: int) -> tuple[Tensor, Tensor]:
        """The places of a causal convolution that stand in a chunk.

        Args:
            x: (B, inputs, t), zero at invalid steps.
            valid: bool (B, places).
            tail: the last `before` steps in front of the chunk.
            seen: how many steps came before the chunk.

        Returns:
            (B, outputs, places), and the tail behind the chunk.
        """
        (stride,), (dilation,) = self.conv.stride, self.conv.dilation
        joined = torch.cat([tail, x], dim=2)
        places = joined[:, :, -seen % stride :]
        if places.shape[2] > self.before:
            y = masked(F.conv1d(places, self.conv.weight, self.conv.bias, stride, dilation=dilation), valid)
        else:
            y = x.new_zeros(len(x), self.conv.out_channels, 0)
        return y, joined[:, :, x.shape[2] :].clone()  # a view would keep the chunk alive


def walk_series(
    network: nn.Module,
    stages: Sequence[str],
    strides: dict[str, int],
    x: Tensor,
    wanted: Sequence[str],
    *,
    causal: bool = False,
    hidden: Tensor | None = None,
) -> list[Maps]:
    """Pass normalised series through stages as far as the last wanted one.

    Args:
        network: whose modules the stages are; each takes (B, C, T) and the bool (B, T') of its own places.
        stages: their dotted names, in order.
        strides: steps between places of each stage.
        x: (B, C, T), NaN where nothing was measured.
        wanted: some of `stages`, in any order.
        causal: whether a place is valid where its own step was, which is known at once, or where any step of its cell was.
        hidden: bool (B, T'), places of the first stage whose values become 0 and which stay valid; None = none.
    """
    x, valid = measured(x)
    found, stride = {}, 1
    for name in stages[: 1 + max(map(stages.index, wanted))]:
        ratio, stride = strides[name] // stride, strides[name]
        valid = valid[:, ::ratio] if causal else cells(valid, ratio)
        x = network.get_submodule(name)(x, valid)
        if hidden is not None and name == stages[0]:
            x = masked(x, ~hidden)
        if name in wanted:
            found[name] = Maps(x, stride, valid)
    return [found[name] for name in wanted]


def check_layers(where: str, kernels: Sequence[int], strides: Sequence[int], **counts: Sequence[int]) -> None:
    """Raises ConfigError unless all are of one length, at least 1, and kernels are as long as strides."""
    given = {**counts, "kernels": kernels, "strides": strides}
    shown = ", ".join(f"{name} {list(values)}" for name, values in given.items())
    if len({len(values) for values in given.values()}) != 1 or not kernels or min(min(values) for values in given.values()) < 1:
        raise ConfigError(f"{where}: {' and '.join(given)} need one number of at least 1 for each layer, got {shown}: give as many of each")
    if any(kernel < stride for kernel, stride in zip(kernels, strides, strict=True)):
        raise ConfigError(f"{where}: a kernel shorter than its stride skips steps, got {shown}: lengthen it or lessen the stride")
