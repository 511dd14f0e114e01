"""A recurrent network on a convolutional front: contexts that know all of the past, for predicting what comes and for streams."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import Pooled, pooling_of
from kinshot.encoders.scaling import check_factors, scaled
from kinshot.encoders.steps import SeriesConv, check_layers, masked, measured, walk_series
from kinshot.encoders.streaming import Streamed, StreamState, check_chunk
from kinshot.samples.series import SeriesSpec


class CausalConvReLU(nn.Module):
    """Causal convolution - ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = SeriesConv(inputs, outputs, kernel, stride=stride, causal=True)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, ceil(T / stride)), zero where the places' `valid` is false."""
        return F.relu(self.conv(x, valid))


class HeldGRU(nn.Module):
    """A GRU that holds its state where a place is invalid: it does not run there, however many there are."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, width, batch_first=True)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, inputs, T) to the states (B, width, T), from zero on; zero where `valid` is false."""
        return self.step(x, valid, self.start(len(x)))[0]

    def start(self, streams: int) -> Tensor:
        """The state before anything came: zeros (streams, width)."""
        return next(self.gru.parameters()).new_zeros(streams, self.gru.hidden_size)

    def step(self, x: Tensor, valid: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` from a state (B, width) on, and the state behind."""
        if not x.shape[2]:
            return x.new_zeros(len(x), self.gru.hidden_size, 0), state
        # valid places are moved to the front of each row, in their order; the GRU's states behind them are read by nobody
        order = (~valid).byte().argsort(dim=1, stable=True)
        states, _ = self.gru(x.mT.take_along_dim(order.unsqueeze(2), dim=1), state.unsqueeze(0))
        count = valid.cumsum(dim=1)
        moved_back = states.take_along_dim((count - 1).clamp_min(0).unsqueeze(2), dim=1).mT
        behind = (
            torch.cat([state.to(states.dtype).unsqueeze(1), states], dim=1).take_along_dim(count[:, -1].view(-1, 1, 1), dim=1).squeeze(1)
        )
        return masked(moved_back, valid), behind


@ENCODERS.register("conv_gru")
class ConvGRU(nn.Module):
    """Causal convolutions, which make a latent of every place, and GRUs over them, which make a context of all places so far.

    A place stands at a step and sees no later one; it is valid where something was measured at that step. Where a place is invalid the
    GRU holds its state. Nothing is normalised over a batch or over time, so that it can stream as it is. The latents are stage
    `front.<last>`, which `latents` names, the contexts stage `recurrent.<last>`.

    Paper: van den Oord, Li, Vinyals, 2018, arXiv 1807.03748 (CPC); on sensors of activity Haresamudram, Essa, Plötz, 2020, arXiv
    2012.05333. Widths and strides are ours, as is holding the state; no dropout, whose masks would not be keyed.

    Args:
        widths: channels of every convolution.
        kernels: taps of every convolution.
        strides: steps between places of every convolution.
        hidden: width of every GRU, and the encoder's.
        layers: GRUs, one on top of the other.
        width: factor on `widths` and `hidden`, for narrower versions.
        pooling: what becomes of the contexts: the `last` one, their `mean` or `max`.

    >>> from kinshot.samples.series import SeriesSpec
    >>> encoder = kinshot.encoders.conv_gru(SeriesSpec(3, 128, 50.0, mean=(0.0,) * 3, std=(1.0,) * 3))
    >>> encoder(torch.zeros(2, 3, 128)).shape, encoder.maps(torch.zeros(2, 3, 128), encoder.stages[-1:])[0].values.shape
    (torch.Size([2, 128]), torch.Size([2, 128, 32]))
    """

    accepts = ("series",)
    causal = True

    def __init__(
        self,
        input: SeriesSpec,
        *,
        widths: tuple[int, ...] = (32, 64, 128),
        kernels: tuple[int, ...] = (3, 3, 3),
        strides: tuple[int, ...] = (2, 2, 1),
        hidden: int = 128,
        layers: int = 1,
        width: float = 1.0,
        pooling: Literal["mean", "max", "last"] = "last",
    ) -> None:
        super().__init__()
        check_layers("encoder conv_gru", kernels, strides, widths=widths)
        if min(hidden, layers) < 1:
            raise ConfigError(
                f"encoder conv_gru: hidden and layers must be at least 1, got hidden {hidden}, layers {layers}: try 128 and 1"
            )
        check_factors("encoder conv_gru", width=width)
        widths, hidden = tuple(scaled(count, width) for count in widths), scaled(hidden, width)
        convolutions = zip(pairwise((input.channels, *widths)), kernels, strides, strict=True)
        front = [CausalConvReLU(*pair, kernel, stride) for pair, kernel, stride in convolutions]
        recurrent = [HeldGRU(hidden if number else widths[-1], hidden) for number in range(layers)]
        self.front: Sequence[CausalConvReLU] = nn.ModuleList(front)  # type: ignore[assignment]  # which forgets what its modules are
        self.recurrent: Sequence[HeldGRU] = nn.ModuleList(recurrent)  # type: ignore[assignment]
        self.input, self.dim = input, hidden
        self.pooling, self._pool = pooling, pooling_of("encoder conv_gru", pooling)
        parts = {"front": len(widths), "recurrent": layers}
        self.stages = tuple(f"{part}.{number}" for part, count in parts.items() for number in range(count))
        self.latents = f"front.{len(widths) - 1}"
        self.dims = dict(zip(self.stages, [*widths, *[hidden] * layers], strict=True))
        self.strides = dict(zip(self.stages, accumulate([*strides, *[1] * layers], mul), strict=True))

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What stages give of normalised windows (B, C, T): (B, dims[stage], T / stride) rounded up, zero at invalid places."""
        return walk_series(self, self.stages, self.strides, x, stages, causal=True)

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the contexts: pooled over valid places, zero for a window without any."""
        return self._pool(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised windows (B, C, T)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])

    def start(self, streams: int) -> StreamState:
        """The state of so many streams before anything came; see `streaming.Streaming`."""
        memory = (*(block.conv.start(streams) for block in self.front), *(gru.start(streams) for gru in self.recurrent))
        return StreamState(0, memory, Pooled.start(self.pooling, streams, memory[-1], self.dim))

    def step(self, chunk: Tensor, state: StreamState) -> tuple[Streamed, StreamState]:
        """What a chunk (streams, C, t) of normalised steps gives, and the state behind it; see `streaming.Streaming`."""
        check_chunk("conv_gru", self, chunk, state)
        x, valid = measured(chunk)
        seen, memory = state.seen, list[Tensor]()
        for block, tail in zip(self.front, state.memory, strict=False):
            (stride,) = block.conv.conv.stride
            valid = valid[:, -seen % stride :: stride]
            x, tail = block.conv.step(x, valid, tail, seen)
            x, seen = F.relu(x), -(-seen // stride)
            memory.append(tail)
        for gru, held in zip(self.recurrent, state.memory[len(self.front) :], strict=True):
            x, held = gru.step(x, valid, held)
            memory.append(held)
        maps = Maps(x, self.strides[self.stages[-1]], valid)
        pooled = state.pooled.add(maps)
        return Streamed(maps, pooled.feature(x.dtype)), StreamState(state.seen + chunk.shape[2], tuple(memory), pooled)
