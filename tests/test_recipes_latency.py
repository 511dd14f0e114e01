"""How long encoders take: turns, counts and the clock."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.spec import Spec
from kinshot.samples.tokens import TokenSpec
from kinshot.studies.latency import Timing, example_batch, latencies

GRAY = PixelSpec.square(1, 28, (0.5,), (0.25,))
COLOUR = PixelSpec.square(3, 33, (0.5,) * 3, (0.25,) * 3)
ROWS = RowSpec(10, (0.0,) * 10, (1.0,) * 10)
TEXTS = TokenSpec(12, "abcdef")


class Called(nn.Module):
    """Writes down who was called, with how many samples."""

    def __init__(self, name: str, calls: list[tuple[str, int]]) -> None:
        super().__init__()
        self.name, self.calls = name, calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.name, len(x)))
        return x


def tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves 1/64 s at each look: a call takes exactly that long."""
    ticks = iter(range(10_000))
    monkeypatch.setattr("kinshot.studies.latency.time.perf_counter", lambda: next(ticks) / 64)


def test_each_batch_is_timed_and_threads_are_put_back() -> None:
    threads = torch.get_num_threads()
    encoders = [(build_encoder("conv4", {"width": width}, GRAY).eval(), GRAY) for width in (4, 8)]
    found = latencies(encoders, Timing(threads=2, batches=(1, 3), warmup=1, repeats=6))
    assert [[latency.batch for latency in one] for one in found] == [[1, 3], [1, 3]]
    for one in found:
        assert all(0 < latency.low <= latency.median <= latency.high and latency.calls == 6 for latency in one)
    assert torch.get_num_threads() == threads


def test_encoders_take_turns() -> None:
    """Seven calls each, in turns of five behind one that is not timed; the warm-up comes first."""
    calls: list[tuple[str, int]] = []
    latencies([(Called("a", calls), ROWS), (Called("b", calls), ROWS)], Timing(batches=(4,), warmup=2, repeats=7))
    assert "".join(name for name, _ in calls) == "aabb" + "a" * 6 + "b" * 6 + "a" * 3 + "b" * 3
    assert {batch for _, batch in calls} == {4}


def test_an_encoder_of_another_kind_gets_its_own_samples() -> None:
    found = latencies([(build_encoder("mlp", {}, ROWS).eval(), ROWS), (build_encoder("text", {}, TEXTS).eval(), TEXTS)], Timing(repeats=1))
    assert [[latency.calls for latency in one] for one in found] == [[1, 1], [1, 1]]


def test_slow_encoders_are_timed_five_times(monkeypatch: pytest.MonkeyPatch) -> None:
    tick(monkeypatch)
    slow, fast = Timing(batches=(2,), repeats=50, seconds=0.0), Timing(batches=(2,), repeats=50, seconds=7 / 64)
    assert [latencies([(nn.Flatten(), GRAY)], timing)[0][0].calls for timing in (slow, fast)] == [5, 7]


def test_the_clock_runs_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    tick(monkeypatch)
    ((found,),) = latencies([(nn.Flatten(), ROWS)], Timing(batches=(1,), repeats=9))
    assert (found.low, found.median, found.high, found.calls) == (15.625, 15.625, 15.625, 9)


@pytest.mark.parametrize("spec", [GRAY, COLOUR, ROWS, TEXTS])
def test_example_batches_fit_and_repeat(spec: Spec) -> None:
    name = {"image": "conv4", "features": "mlp", "tokens": "text"}[spec.kind]
    x = example_batch(spec, 3)
    assert build_encoder(name, {}, spec).eval()(x).shape[0] == 3
    assert torch.equal(x, example_batch(spec, 3))


@pytest.mark.parametrize("bad", [{"threads": 0}, {"repeats": 0}, {"batches": (0,)}])
def test_timing_is_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        latencies([(nn.Flatten(), ROWS)], Timing(**bad))
