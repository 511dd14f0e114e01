"""Several modalities as one stream: each goes on at its own rate, and the feature is of those that have measured anything so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.core.errors import DataError, suggest
from kinshot.encoders.fused_fields import Fused
from kinshot.encoders.streaming import Streamed, StreamState


@dataclass(frozen=True)
class FusedState:
    """What fused encoders keep of streams that go on side by side.

    Args:
        parts: the state of each modality.
        measured: bool (streams,) by modality: whether it has measured anything so far.
    """

    parts: Mapping[str, StreamState]
    measured: Mapping[str, Tensor]


@dataclass(frozen=True)
class FusedStreamed:
    """What the next steps of some modalities give.

    Args:
        parts: what they give by modality, for the modalities that had any.
        feature: (streams, dim), the fused feature of everything since the start; zero for a stream in which nothing was measured yet.
    """

    parts: Mapping[str, Streamed]
    feature: Tensor


def start(fused: Fused, streams: int) -> FusedState:
    """The state of so many streams before anything came; every encoder of `fused` streams."""
    parts = {name: encoder.start(streams) for name, encoder in fused.encoders.items()}  # type: ignore[operator]  # they keep the contract
    measured = {name: torch.zeros(streams, dtype=torch.bool, device=state.pooled.count.device) for name, state in parts.items()}
    return FusedState(parts, measured)


def step(fused: Fused, chunks: Mapping[str, Tensor], state: FusedState) -> tuple[FusedStreamed, FusedState]:
    """The feature of all that came so far with the next steps of some modalities, and the state behind them.

    Args:
        fused: encoders that all stream.
        chunks: normalised steps (streams, C, t) by modality, each with a t of its own; NaN where nothing was measured. The time of one
            that is left out stands still.
        state: behind the chunks before.

    Raises:
        DataError: no chunk, an unknown modality, or a chunk that is none of these streams.
    """
    if not chunks:
        raise DataError(f"encoder fused: expected the next steps of some of {', '.join(fused.dims)}, got none: give those of one at least")
    for name in chunks:
        if name not in fused.dims:
            raise DataError(f"encoder fused: there is no modality {name!r}: {suggest(name, fused.dims)}")
    found, parts, measured = {}, dict(state.parts), dict(state.measured)
    for name, chunk in chunks.items():
        found[name], parts[name] = fused.encoders[name].step(chunk, parts[name])  # type: ignore[operator]
        measured[name] = measured[name] | ~chunk.isnan().flatten(1).all(dim=1)
    return FusedStreamed(found, _feature(fused, parts, measured)), FusedState(parts, measured)


def _feature(fused: Fused, parts: Mapping[str, StreamState], measured: Mapping[str, Tensor]) -> Tensor:
    """(streams, dim): the fusion of the modalities that each stream has."""
    dtype = next(fused.parameters()).dtype
    features = {name: part.pooled.feature(dtype) for name, part in parts.items()}
    some = torch.stack(list(measured.values())).any(dim=0)
    first = next(iter(measured))
    there = {**measured, first: measured[first] | ~some}  # a fusion takes no stream without any: theirs is replaced below
    return fused.join(features, there).masked_fill(~some.unsqueeze(1), 0.0)
