"""Causal encoders as streams: a chunk and a state in, places and a state out, equal to the whole window at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import Pooled
from kinshot.samples.series import SeriesSpec


@dataclass(frozen=True)
class StreamState:
    """What an encoder keeps of streams that go on side by side, between their chunks: as much after a day as after a second.

    Args:
        seen: steps that came so far.
        memory: what the layers remember, each (streams, ...).
        pooled: what the pooling keeps of all places so far.
    """

    seen: int
    memory: tuple[Tensor, ...]
    pooled: Pooled


@dataclass(frozen=True)
class Streamed:
    """What a chunk gives.

    Args:
        maps: the last stage at the places that stand in the chunk: (streams, dim, places), of which a chunk shorter than the encoder's
            stride may have none.
        feature: (streams, dim), what the encoder gives of everything since the start: `encoder(torch.cat(chunks, dim=2))`. For a feature
            of less than that (of the last seconds, of one window), pool the maps of its places, or start anew.
    """

    maps: Maps
    feature: Tensor


class Streaming(Protocol):
    """An encoder of series that sees nothing of the future.

    `step` is pure: a state may be kept, and gone on from more than once. However the chunks are cut, their maps side by side are what
    `maps` gives of the whole for the last stage, and their last feature is what the encoder gives of it, to 1e-5 of values of unit size.
    Chunks are normalised as windows are, with NaN where nothing was measured.

    Attributes:
        causal: whether it streams as it was built.
        input: the samples that it was made for.
        dim: features.
    """

    causal: bool
    input: SeriesSpec
    dim: int

    def start(self, streams: int) -> StreamState:
        """The state of so many streams before anything came."""

    def step(self, chunk: Tensor, state: StreamState) -> tuple[Streamed, StreamState]:
        """What a chunk (streams, C, t) gives, and the state behind it. Raises ConfigError unless `causal`, DataError for a bad chunk."""


def stream_of(name: str, encoder: Any) -> Streaming:
    """The encoder, called `name`, as a stream. Raises ConfigError for one that looks ahead, or takes something else than series."""
    if not getattr(encoder, "causal", False):
        raise ConfigError(
            f"encoder {name} needs its whole window and cannot stream: train one that sees nothing of the future, encoder=conv_gru, or "
            "encoder=tcn with encoder.causal=true"
        )
    return encoder


def check_chunk(name: str, encoder: Streaming, chunk: Tensor, state: StreamState) -> None:
    """Raises ConfigError for an encoder, called `name`, that looks ahead, and DataError for a chunk that is none of these streams."""
    stream_of(name, encoder)
    streams, channels = len(state.pooled.count), encoder.input.channels
    if chunk.ndim != 3 or chunk.shape[:2] != (streams, channels) or not chunk.shape[2]:
        raise DataError(
            f"encoder {name}: expected a chunk of {streams} streams, {channels} channels and at least one step, got {tuple(chunk.shape)}: "
            "give every stream's next steps, NaN where nothing was measured"
        )
