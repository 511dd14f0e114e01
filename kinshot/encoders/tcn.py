"""A temporal convolutional network: dilated residual blocks that see ever further, to both sides or into the past alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import Pooled, pooling_of
from kinshot.encoders.scaling import check_factors, scaled
from kinshot.encoders.steps import SeriesConv, measured, walk_series
from kinshot.encoders.streaming import Streamed, StreamState, check_chunk
from kinshot.samples.series import SeriesSpec


class TemporalBlock(nn.Module):
    """GELU, dilated convolution, GELU, dilated convolution, beside the identity or, where the width changes, a convolution of one tap."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.conv1 = SeriesConv(inputs, outputs, kernel, dilation=dilation, causal=causal)
        self.conv2 = SeriesConv(outputs, outputs, kernel, dilation=dilation, causal=causal)
        self.shortcut = SeriesConv(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, inputs, T), zero at invalid steps, to (B, outputs, T), the same there."""
        y = self.conv1(F.gelu(x), valid)
        return self.conv2(F.gelu(y), valid) + self._beside(x, valid)

    def start(self, streams: int) -> tuple[Tensor, Tensor]:
        """What `step` remembers before anything came."""
        return self.conv1.start(streams), self.conv2.start(streams)

    def step(self, x: Tensor, valid: Tensor, tails: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """`forward` of a chunk of a causal block, with what both convolutions remember."""
        y, first = self.conv1.step(F.gelu(x), valid, tails[0], seen=0)
        y, second = self.conv2.step(F.gelu(y), valid, tails[1], seen=0)
        return y + self._beside(x, valid), (first, second)

    def _beside(self, x: Tensor, valid: Tensor) -> Tensor:
        return x if self.shortcut is None else self.shortcut(x, valid)


@ENCODERS.register("tcn")
class TCN(nn.Module):
    """TS2Vec's dilated network: a projection of each step, residual blocks with dilations 1, 2, 4, 8 and so on, a feature for every step.

    Block i, of two convolutions, sees 2 (kernel - 1) 2^i steps more than the one before it: with the ten blocks of `hidden` and the last
    one of `features`, 8189 steps in all. Taps that lie outside a shorter window cost nothing. No normalisation, so that what a step
    becomes depends on nothing but the steps that it sees.

    Paper: Yue, Wang, Duan, Yang, Huang, Tong, Xu, 2022, arXiv 2106.10466 (TS2Vec; its public code's network), after Bai, Kolter, Koltun,
    2018, arXiv 1803.01271. Departures: without dropout, whose masks would not be keyed; one channel that was not measured leaves a step its
    others; invalid steps are zero before every convolution, not before the first alone, so that padding never comes back from the
    blocks' biases. Which steps the random mask that TS2Vec trains with hides is its method's to say, and `maps` hides them.

    Args:
        hidden: channels of all blocks but the last.
        depth: blocks of `hidden`; the last one comes on top.
        features: channels of the last block, which are the encoder's.
        width: factor on `hidden` and `features`, for narrower versions.
        kernel: taps of a convolution, an odd number.
        causal: see the past alone: `step` then goes on from chunk to chunk (`streaming.Streaming`). Its memory of a stream is one tail of
            (kernel - 1) 2^i steps for each convolution.
        pooling: what becomes of the steps: `max` as in the paper, `mean` or `last`.

    >>> from kinshot.samples.series import SeriesSpec
    >>> spec = SeriesSpec(3, 128, 50.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    >>> encoder = kinshot.encoders.tcn(spec, hidden=16, depth=4, features=32, causal=True)
    >>> streamed, state = encoder.step(torch.zeros(2, 3, 10), encoder.start(2))
    >>> streamed.maps.values.shape, streamed.feature.shape, state.seen
    (torch.Size([2, 32, 10]), torch.Size([2, 32]), 10)
    """

    accepts = ("series",)
    hides_steps = True  # `maps` takes steps to hide

    def __init__(
        self,
        input: SeriesSpec,
        *,
        hidden: int = 64,
        depth: int = 10,
        features: int = 320,
        width: float = 1.0,
        kernel: int = 3,
        causal: bool = False,
        pooling: Literal["mean", "max", "last"] = "max",
    ) -> None:
        super().__init__()
        if min(hidden, depth, features, kernel) < 1 or kernel % 2 == 0:
            raise ConfigError(
                f"encoder tcn: hidden, depth, features and kernel must be at least 1 and kernel odd, got hidden {hidden}, depth {depth}, "
                f"features {features}, kernel {kernel}: try hidden 64, depth 10, features 320 and kernel 3"
            )
        check_factors("encoder tcn", width=width)
        hidden, features = scaled(hidden, width), scaled(features, width)
        self.input, self.dim, self.causal = input, features, causal
        self.pooling, self._pool = pooling, pooling_of("encoder tcn", pooling)
        self.entry = SeriesConv(input.channels, hidden, 1)
        widths = [hidden] * depth + [features]
        blocks = [TemporalBlock(hidden, outputs, kernel, 2**i, causal) for i, outputs in enumerate(widths)]
        self.blocks: Sequence[TemporalBlock] = nn.ModuleList(blocks)  # type: ignore[assignment]  # which forgets what its modules are
        self.stages = ("entry", *(f"blocks.{number}" for number in range(depth + 1)))
        self.dims = dict(zip(self.stages, [hidden, *widths], strict=True))
        self.strides = dict.fromkeys(self.stages, 1)

    def maps(self, x: Tensor, stages: Sequence[str], hidden: Tensor | None = None) -> list[Maps]:
        """What stages give of every step of normalised windows (B, C, T): (B, dims[stage], T), zero at invalid steps.

        `hidden`, bool (B, T), are steps whose projection is 0 for all blocks, and which stay valid: they are told by their neighbours.
        """
        return walk_series(self, self.stages, self.strides, x, stages, causal=self.causal, hidden=hidden)

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last block: pooled over valid steps, zero for a window without any."""
        return self._pool(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised windows (B, C, T)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])

    def start(self, streams: int) -> StreamState:
        """The state of so many streams before anything came; see `streaming.Streaming`."""
        memory = tuple(tail for block in self.blocks for tail in block.start(streams))
        return StreamState(0, memory, Pooled.start(self.pooling, streams, self.entry.conv.weight, self.dim))

    def step(self, chunk: Tensor, state: StreamState) -> tuple[Streamed, StreamState]:
        """What a chunk (streams, C, t) of normalised steps gives, and the state behind it; see `streaming.Streaming`."""
        check_chunk("tcn", self, chunk, state)
        x, valid = measured(chunk)
        x, memory = self.entry(x, valid), list[Tensor]()
        for number, block in enumerate(self.blocks):
            x, tails = block.step(x, valid, state.memory[2 * number : 2 * number + 2])
            memory += tails
        maps = Maps(x, 1, valid)
        pooled = state.pooled.add(maps)
        return Streamed(maps, pooled.feature(x.dtype)), StreamState(state.seen + chunk.shape[2], tuple(memory), pooled)
