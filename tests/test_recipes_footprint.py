"""What an encoder costs, against formulas by hand and files on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kinshot.core.errors import ConfigError
from kinshot.encoders.base import FeatureSpec, InputSpec, Spec, TokenSpec
from kinshot.encoders.build import build_encoder
from kinshot.recipes.embedder import Embedder, load
from kinshot.recipes.footprint import Timing, example_batch, file_bytes_of, footprint, latency_of, macs_of, parameters_of
from tests.study_runs import DIGITS, write_run

GRAY = InputSpec(1, 28, (0.5,), (0.25,))
COLOUR = InputSpec(3, 33, (0.5,) * 3, (0.25,) * 3)
ROWS = FeatureSpec(10, (0.0,) * 10, (1.0,) * 10)
TEXTS = TokenSpec(12, "abcdef")
QUICK = Timing(batches=(1, 3), warmup=1, repeats=6)


def conv4_macs(spec: InputSpec, width: int, depth: int = 4) -> int:
    side, before, total = spec.size, spec.channels, 0
    for _ in range(depth):
        total += 9 * before * width * side * side  # padding counts, as everywhere
        side, before = -(-side // 2), width
    return total


@pytest.mark.parametrize("spec", [GRAY, COLOUR])
@pytest.mark.parametrize(("width", "depth"), [(64, 4), (8, 2)])
def test_conv4_by_hand(spec: InputSpec, width: int, depth: int) -> None:
    encoder = build_encoder("conv4", {"width": width, "depth": depth}, spec).eval()
    assert macs_of(encoder, spec) == conv4_macs(spec, width, depth)
    assert parameters_of(encoder) == 9 * width * (spec.channels + (depth - 1) * width) + 2 * width * depth


def test_mlp_and_text_by_hand() -> None:
    mlp = build_encoder("mlp", {"widths": [40, 20]}, ROWS).eval()
    assert macs_of(mlp, ROWS) == 10 * 40 + 40 * 20
    text = build_encoder("text", {"width": 8, "layers": 2, "heads": 2}, TEXTS).eval()
    linear, attention = 12 * (3 + 1 + 4 + 4) * 8 * 8, 2 * 12 * 12 * 8
    assert macs_of(text, TEXTS) == 2 * (linear + attention)


def test_resnet18_is_as_published() -> None:
    """1.82 G multiply-accumulates at 224 pixels (torchvision says 1.81 with its own counting of the classifier)."""
    spec = InputSpec(3, 224, (0.5,) * 3, (0.25,) * 3)
    assert macs_of(build_encoder("resnet18", {}, spec).eval(), spec) == pytest.approx(1.814e9, rel=0.005)


def test_file_bytes_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", DIGITS)
    model = load(run)
    (file,) = tmp_path.rglob("encoder.safetensors")
    assert file_bytes_of(model.encoder) == file.stat().st_size


def test_footprint_leaves_model_and_threads_as_they_were() -> None:
    encoder = build_encoder("conv4", {"width": 4}, GRAY)
    model, threads = Embedder(encoder, nn.Linear(16, 99), GRAY), torch.get_num_threads()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = footprint(model, Timing(threads=2, batches=(1, 3), warmup=1, repeats=6))
    assert found.parameters == 9 * 4 * (1 + 3 * 4) + 2 * 4 * 4  # nothing of the projector
    assert found.macs == conv4_macs(GRAY, 4)
    assert [latency.batch for latency in found.latency] == [1, 3]
    for latency in found.latency:
        assert 0 < latency.low <= latency.median <= latency.high
        assert latency.calls == 6
    assert torch.get_num_threads() == threads
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_slow_encoders_are_timed_five_times() -> None:
    encoder = build_encoder("conv4", {"width": 4}, GRAY).eval()
    (found,) = latency_of(encoder, GRAY, Timing(batches=(2,), repeats=50, seconds=0.0))
    assert found.calls == 5


def test_the_clock_runs_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that moves 1/64 s at each look, a call takes exactly that long."""
    ticks = iter(range(10_000))
    monkeypatch.setattr("kinshot.recipes.footprint.time.perf_counter", lambda: next(ticks) / 64)
    (found,) = latency_of(nn.Flatten(), ROWS, Timing(batches=(1,), repeats=9))
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
        latency_of(nn.Flatten(), ROWS, Timing(**bad))
