"""Every causal encoder as a stream: however it is cut, it gives what the whole window gives, from a memory that does not grow."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import build_encoder
from kinshot.encoders.streaming import StreamState, stream_of
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import accepted_kinds

SPEC = SeriesSpec(3, 40, 50.0, (0.0,) * 3, (1.0,) * 3)
NAN = float("nan")
SERIES = [name for name in ENCODERS.names() if accepted_kinds(ENCODERS.get(name)) == ("series",)]
POOLINGS = ("mean", "max", "last")
SMALL: dict[str, dict[str, Any]] = {
    "tcn": {"hidden": 8, "depth": 3, "features": 12},
    "conv_gru": {"widths": [8, 8], "kernels": [3, 2], "strides": [2, 1], "hidden": 12},
}
# other strides and more layers, so that chunks end between places
MORE: dict[str, dict[str, Any]] = {
    "tcn": {"kernel": 5, "depth": 1},
    "conv_gru": {"widths": [8, 8, 8], "kernels": [5, 3, 4], "strides": [3, 1, 2], "layers": 2},
}


def streams() -> list[Any]:
    found = []
    for name in SERIES:
        part = ENCODERS.get(name)
        if hasattr(part, "step"):
            causal = {"causal": True} if "causal" in inspect.signature(part).parameters else {}
            found += [(name, {**causal, "pooling": pooling}) for pooling in POOLINGS] + [(name, {**causal, **MORE.get(name, {})})]
    return [pytest.param(name, {**SMALL.get(name, {}), **more}, id=f"{name} {more.get('pooling', 'more')}") for name, more in found]


every = pytest.mark.parametrize(("name", "more"), streams())


def windows(length: int = 40, seed: int = 0) -> Tensor:
    """One whole, one with a burst, one of scattered values that begins late, one of nothing."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 3, length, generator=generator)
    x[1, :, 4:11] = NAN
    x[1, 0, 11:] = NAN
    x[2][torch.rand(x[2].shape, generator=generator) < 0.5] = NAN
    x[2, :, :5] = NAN
    x[3] = NAN
    return x


def memory(state: StreamState) -> list[Tensor]:
    return [*state.memory, state.pooled.kept, state.pooled.count]


def test_the_causal_encoders_are_found() -> None:
    assert {case.values[0] for case in streams()} == {"tcn", "conv_gru"}


@every
@settings(max_examples=3, deadline=None)
@given(cuts=st.lists(st.integers(1, 39), max_size=12, unique=True), seed=st.integers(0, 9))
def test_any_chunks_give_what_the_whole_gives(name: str, more: dict[str, Any], cuts: list[int], seed: int) -> None:
    encoder, x = build_encoder(name, more, SPEC).eval(), windows(seed=seed)
    state, values, valid = encoder.start(4), [], []
    with torch.no_grad():
        whole = encoder.maps(x, encoder.stages[-1:])[0]
        for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 40], strict=True):
            streamed, state = encoder.step(x[:, :, start:stop], state)
            values.append(streamed.maps.values)
            valid.append(streamed.maps.valid)
            assert streamed.maps.stride == whole.stride
            assert state.seen == stop
            torch.testing.assert_close(streamed.feature, encoder(x[:, :, :stop]), rtol=0, atol=1e-5)
    assert torch.equal(torch.cat(valid, dim=1), whole.valid)
    torch.testing.assert_close(torch.cat(values, dim=2), whole.values, rtol=0, atol=1e-5)


@every
def test_one_step_at_a_time(name: str, more: dict[str, Any]) -> None:
    encoder, x = build_encoder(name, more, SPEC).eval(), windows()
    state = encoder.start(4)
    with torch.no_grad():
        for t in range(40):
            streamed, state = encoder.step(x[:, :, t : t + 1], state)
        torch.testing.assert_close(streamed.feature, encoder(x), rtol=0, atol=1e-5)


@every
def test_the_future_is_not_seen(name: str, more: dict[str, Any]) -> None:
    """In the window at once: other values from a step on leave every place before that step as it was."""
    encoder, x = build_encoder(name, more, SPEC).eval(), windows()
    other = x.clone()
    other[:, :, 21:] = 5.0
    with torch.no_grad():
        (one,), (two,) = (encoder.maps(given, encoder.stages[-1:]) for given in (x, other))
    before = -(-21 // one.stride)
    torch.testing.assert_close(one.values[:, :, :before], two.values[:, :, :before])
    assert not torch.equal(one.values[:, :, before:], two.values[:, :, before:])


@every
def test_a_step_changes_neither_its_state_nor_its_chunk(name: str, more: dict[str, Any]) -> None:
    encoder, x = build_encoder(name, more, SPEC).eval(), windows()
    with torch.no_grad():
        _, state = encoder.step(x[:, :, :17], encoder.start(4))
        kept, chunk = [tensor.clone() for tensor in memory(state)], x[:, :, 17:30].clone()
        first, _ = encoder.step(chunk, state)
        again, _ = encoder.step(chunk, state)
    assert all(torch.equal(one, two) for one, two in zip(kept, memory(state), strict=True))
    assert torch.equal(chunk.nan_to_num(9.0), x[:, :, 17:30].nan_to_num(9.0))
    assert torch.equal(first.feature, again.feature)
    assert torch.equal(first.maps.values, again.maps.values)


@every
def test_memory_does_not_grow(name: str, more: dict[str, Any]) -> None:
    encoder, x = build_encoder(name, more, SPEC).eval(), windows()
    state = encoder.start(4)
    sizes = [tensor.untyped_storage().nbytes() for tensor in memory(state)]
    with torch.no_grad():
        for start, stop in ((0, 40), (0, 1), (3, 20), (0, 40)):
            streamed, state = encoder.step(x[:, :, start:stop], state)
            assert [tensor.untyped_storage().nbytes() for tensor in memory(state)] == sizes
            assert all(len(tensor) == 4 for tensor in memory(state))
    assert {field.name for field in fields(state)} == {"seen", "memory", "pooled"}
    assert streamed.feature.isfinite().all()


@every
def test_streams_side_by_side_do_not_meet(name: str, more: dict[str, Any]) -> None:
    encoder, x = build_encoder(name, more, SPEC).eval(), windows()
    state, alone = encoder.start(4), encoder.start(1)
    with torch.no_grad():
        for start, stop in ((0, 7), (7, 24)):
            streamed, state = encoder.step(x[:, :, start:stop], state)
            single, alone = encoder.step(x[1:2, :, start:stop], alone)
    torch.testing.assert_close(streamed.feature[1:2], single.feature, rtol=0, atol=1e-5)
    assert streamed.feature[3].abs().max() == 0


@every
def test_a_chunk_that_is_none_of_these_streams_is_told(name: str, more: dict[str, Any]) -> None:
    encoder = build_encoder(name, more, SPEC)
    assert stream_of(name, encoder) is encoder
    for shape in ((4, 3, 0), (3, 3, 5), (4, 2, 5), (4, 3)):
        with pytest.raises(DataError, match=r"a chunk of 4 streams, 3 channels and at least one step"):
            encoder.step(torch.zeros(shape), encoder.start(4))


@pytest.mark.parametrize("name", SERIES)
def test_what_looks_ahead_does_not_stream(name: str) -> None:
    encoder = build_encoder(name, {}, SPEC)
    if getattr(encoder, "causal", False):
        return
    with pytest.raises(ConfigError, match=r"cannot stream: .* encoder=conv_gru, or encoder=tcn with encoder.causal=true"):
        stream_of(name, encoder)
    if hasattr(encoder, "step"):
        with pytest.raises(ConfigError, match="cannot stream"):
            encoder.step(torch.zeros(1, 3, 5), encoder.start(1))
