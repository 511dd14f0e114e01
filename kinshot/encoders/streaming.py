"""Causal encoders as streams: a chunk and a state in, places and a state out, equal to the whole window at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import Pooled
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec

if TYPE_CHECKING:
    from kinshot.encoders.fused_stream import FusedState, FusedStreamed


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


class StreamingBundle(Protocol):
    """An encoder of bundles whose modalities all stream, each at its own rate: `step` takes the next steps of those that have any.

    However the chunks are cut, and whichever modality is ahead, the feature is what the encoder gives of the chunks put together, to 1e-5
    of values of unit size: fused from the modalities that have measured anything so far.

    Attributes:
        causal: whether it streams as it was built.
        input: the samples that it was made for.
        dim: features.
    """

    @property
    def causal(self) -> bool: ...  # noqa: D102 - the class says it

    input: BundleSpec
    dim: int

    def start(self, streams: int) -> FusedState:
        """The state of so many streams before anything came. Raises ConfigError unless `causal`."""

    def step(self, chunks: Mapping[str, Tensor], state: FusedState) -> tuple[FusedStreamed, FusedState]:
        """What chunks (streams, C, t) by modality give, and the state behind them. Raises DataError for a bad chunk."""


def stream_of(name: str, encoder: Any) -> Streaming | StreamingBundle:
    """The encoder, called `name`, as a stream. Raises ConfigError for one that looks ahead, or takes something else than series."""
    if getattr(encoder, "causal", False):
        found: Streaming | StreamingBundle = encoder
        return found
    ahead = [part for part, own in getattr(encoder, "modalities", {}).items() if not getattr(own, "causal", False)]
    if ahead:
        raise ConfigError(
            f"encoder {name} cannot stream: its encoder of {', '.join(ahead)} needs a whole window; train one of encoders that see nothing "
            "of the future, encoder.each=conv_gru, or encoder.each=tcn:causal=true"
        )
    raise ConfigError(
        f"encoder {name} needs its whole window and cannot stream: train one that sees nothing of the future, encoder=conv_gru, or "
        "encoder=tcn with encoder.causal=true"
    )


def check_chunk(name: str, encoder: Streaming, chunk: Tensor, state: StreamState) -> None:
    """Raises ConfigError for an encoder, called `name`, that looks ahead, and DataError for a chunk that is none of these streams."""
    stream_of(name, encoder)
    streams, channels = len(state.pooled.count), encoder.input.channels
    if chunk.ndim != 3 or chunk.shape[:2] != (streams, channels) or not chunk.shape[2]:
        raise DataError(
            f"encoder {name}: expected a chunk of {streams} streams, {channels} channels and at least one step, got {tuple(chunk.shape)}: "
            "give every stream's next steps, NaN where nothing was measured"
        )
