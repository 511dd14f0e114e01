"""Every registered encoder of series: what was not measured leaves no trace, windows of any length, batches of any company."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import build_encoder
from kinshot.encoders.conv_gru import HeldGRU
from kinshot.encoders.measured_norm import MeasuredNorm
from kinshot.encoders.steps import measured
from kinshot.encoders.text_transformer import Block
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import accepted_kinds

SPEC = SeriesSpec(3, 40, 50.0, (0.0,) * 3, (1.0,) * 3)
NAN = float("nan")
# as small as they do what they do
SMALL: dict[str, dict[str, Any]] = {
    "tcn": {"hidden": 8, "depth": 3, "features": 12},
    "conv_gru": {"widths": [8, 8], "kernels": [3, 2], "strides": [2, 1], "hidden": 12},
    "series_resnet": {"width": 0.125, "strides": [1, 2, 1]},
    "patch_transformer": {"width": 16, "layers": 2},
}
NAMES = [name for name in ENCODERS.names() if accepted_kinds(ENCODERS.get(name)) == ("series",)]


def choices(name: str) -> list[dict[str, Any]]:
    """The defaults of an encoder, every other pooling, and causal where it can be either."""
    taken = inspect.signature(ENCODERS.get(name)).parameters
    found: list[dict[str, Any]] = [{}]
    if "pooling" in taken:
        found += [{"pooling": pooling} for pooling in ("mean", "max", "last") if pooling != taken["pooling"].default]
    return found + ([{"causal": True}] if "causal" in taken else [])


CASES = [pytest.param(name, more, id=" ".join([name, *map(str, more.values())])) for name in NAMES for more in choices(name)]
every = pytest.mark.parametrize(("name", "more"), CASES)


def build(name: str, more: dict[str, Any]) -> Any:
    """With running statistics that are not those of the start."""
    encoder = build_encoder(name, {**SMALL.get(name, {}), **more}, SPEC)
    encoder(noise(16, 7))
    return encoder


def noise(batch: int = 5, seed: int = 0, length: int = SPEC.length) -> Tensor:
    return torch.randn(batch, SPEC.channels, length, generator=torch.Generator().manual_seed(seed))


def ragged(batch: int = 5) -> Tensor:
    """A whole window, a short one, one with a burst and a channel missing, scattered values, and nothing."""
    x = noise(batch)
    x[1, :, 23:] = NAN
    x[2, :, 10:19] = NAN
    x[2, 1] = NAN
    x[3][torch.rand(x[3].shape, generator=torch.Generator().manual_seed(3)) < 0.4] = NAN
    x[4] = NAN
    return x


def probe(z: Tensor) -> Tensor:
    """A sum that no two features enter with the same weight."""
    return (z * torch.linspace(-1, 2, z.numel()).view_as(z)).sum()


def test_the_encoders_are_found() -> None:
    assert {"series_cnn", "series_resnet", "tcn", "conv_gru", "patch_transformer"} <= set(NAMES)
    assert build_encoder("auto", {}, SPEC).stages == build_encoder("series_cnn", {}, SPEC).stages


@every
@settings(max_examples=4, deadline=None)
@given(kept=st.integers(1, 60), padding=st.integers(0, 30))
def test_padding_changes_nothing(name: str, more: dict[str, Any], kept: int, padding: int) -> None:
    """A window that ends early, padded, is that window: its places, and its feature. Also one of another length than the encoder's."""
    if name == "patch_transformer":
        kept = min(kept, SPEC.length)
        padding = min(padding, SPEC.length - kept)
    encoder, x = build(name, more).eval(), noise(2, kept, length=kept)
    padded = torch.cat([x, torch.full((2, 3, padding), NAN)], dim=2)
    with torch.no_grad():
        (one,), (two,) = encoder.maps(x, encoder.stages[-1:]), encoder.maps(padded, encoder.stages[-1:])
        places = one.values.shape[2]
        assert places == -(-kept // one.stride)
        assert bool(one.valid.all())
        assert torch.equal(two.valid, (torch.arange(two.values.shape[2]) < places).expand(2, -1))
        torch.testing.assert_close(two.values[:, :, :places], one.values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoder(padded), encoder(x), rtol=1e-4, atol=1e-5)


@every
def test_padding_changes_no_gradient_and_no_statistic(name: str, more: dict[str, Any]) -> None:
    """In training as well: the same windows in a longer and in a tighter batch."""
    one, x = build(name, more).train(), noise(3)
    x[:, :, 25:] = NAN
    other = copy.deepcopy(one)
    probe(one(x)).backward()
    probe(other(x[:, :, :26])).backward()
    for (key, ours), (_, theirs) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        if ours.shape == theirs.shape and ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    for (key, ours), (_, theirs) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@every
@pytest.mark.parametrize("training", [True, False])
def test_nothing_measured_is_zero_and_finite(name: str, more: dict[str, Any], training: bool) -> None:
    encoder, x = build(name, more).train(training), ragged().requires_grad_()
    z = encoder(x)
    assert z.isfinite().all()
    assert z[4].abs().max() == 0
    assert z[:4].abs().amax(1).min() > 0
    for maps in encoder.maps(x, encoder.stages):
        assert maps.valid.dtype == torch.bool
        assert maps.valid.shape == (5, maps.values.shape[2])
        assert not maps.valid[4].any()
        assert maps.valid[0].all()
        assert maps.values.mT[~maps.valid].abs().max() == 0
    probe(z).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert x.grad.isfinite().all()
    assert x.grad[x.isnan()].abs().max() == 0


@every
@pytest.mark.parametrize("training", [True, False])
def test_a_whole_batch_of_nothing(name: str, more: dict[str, Any], training: bool) -> None:
    encoder = build(name, more).train(training)
    before = {key: value.clone() for key, value in encoder.named_buffers()}
    z = encoder(torch.full((3, 3, 40), NAN))
    assert z.abs().max() == 0
    probe(z).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert all(torch.equal(before[key], value) for key, value in encoder.named_buffers())


@every
def test_a_batch_of_one_step(name: str, more: dict[str, Any]) -> None:
    z = build(name, more).train()(noise(1, length=1))
    assert z.isfinite().all()
    assert z.abs().max() > 0


@every
def test_in_evaluation_a_feature_does_not_depend_on_its_company(name: str, more: dict[str, Any]) -> None:
    encoder, x = build(name, more).eval(), ragged()
    with torch.no_grad():
        whole = encoder(x)
        for row in range(5):
            torch.testing.assert_close(encoder(x[row : row + 1]), whole[row : row + 1], rtol=1e-4, atol=1e-5)


@every
def test_a_missing_channel_is_at_its_mean(name: str, more: dict[str, Any]) -> None:
    encoder, x = build(name, more).eval(), noise()
    without, at_mean = x.clone(), x.clone()
    without[:, 1], at_mean[:, 1] = NAN, 0.0
    assert torch.equal(encoder(without), encoder(at_mean))
    assert not torch.equal(encoder(without), encoder(x))


def test_measured_norm_against_a_loop() -> None:
    norm, generator = MeasuredNorm(3), torch.Generator().manual_seed(0)
    torch.nn.init.normal_(norm.norm.weight, generator=generator)
    torch.nn.init.normal_(norm.norm.bias, generator=generator)
    x, valid = 2 + 3 * torch.randn(4, 3, 6, generator=generator), torch.rand(4, 6, generator=generator) < 0.6
    found = norm(x, valid).detach()
    weight, bias = norm.norm.weight.tolist(), norm.norm.bias.tolist()
    for channel in range(3):
        kept = [float(x[b, channel, t]) for b in range(4) for t in range(6) if valid[b, t]]
        mean = sum(kept) / len(kept)
        spread = sum((value - mean) ** 2 for value in kept) / len(kept)
        for b in range(4):
            for t in range(6):
                value = (float(x[b, channel, t]) - mean) / (spread + 1e-5) ** 0.5
                expected = value * weight[channel] + bias[channel] if valid[b, t] else 0.0
                assert float(found[b, channel, t]) == pytest.approx(expected, abs=1e-4)
        assert float(norm.norm.running_mean[channel]) == pytest.approx(0.1 * mean, abs=1e-4)
        assert float(norm.norm.running_var[channel]) == pytest.approx(0.9 + 0.1 * spread * len(kept) / (len(kept) - 1), rel=1e-4)
    everywhere = torch.ones_like(valid)
    torch.testing.assert_close(copy.deepcopy(norm)(x, everywhere), copy.deepcopy(norm.norm)(x))


@pytest.mark.parametrize("count", [0, 1])
def test_measured_norm_of_less_than_two_places_takes_the_running_statistics(count: int) -> None:
    norm, x = MeasuredNorm(3), noise(2)
    norm(x, torch.ones(2, 40, dtype=torch.bool))
    valid = torch.zeros(2, 40, dtype=torch.bool)
    valid[0, :count] = True
    before = copy.deepcopy(norm)
    found = norm(x, valid)
    assert all(torch.equal(one, two) for one, two in zip(norm.buffers(), before.buffers(), strict=True))
    torch.testing.assert_close(found, before.eval()(x, valid))


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("series_cnn", {"widths": [8, 8]}, "one number of at least 1 for each layer"),
        ("series_cnn", {"widths": [8, 0, 8]}, "one number of at least 1 for each layer"),
        ("series_cnn", {"widths": [8], "kernels": [2], "strides": [3]}, "a kernel shorter than its stride skips steps"),
        ("series_cnn", {"width": 0.0}, "must be above 0"),
        ("series_cnn", {"pooling": "sum"}, "mean, max"),
        ("series_resnet", {"widths": [8, 8]}, "a width and a stride of at least 1 for each block"),
        ("series_resnet", {"kernels": [1, 5], "strides": [2, 1, 1]}, "lengthen the kernel"),
        ("tcn", {"kernel": 4}, "kernel odd"),
        ("tcn", {"depth": 0}, "at least 1"),
        ("conv_gru", {"strides": [1, 1]}, "one number of at least 1 for each layer"),
        ("conv_gru", {"layers": 0}, "hidden and layers must be at least 1"),
        ("patch_transformer", {"width": 10}, "heads divide width"),
    ],
)
def test_bad_settings_say_what_to_do(name: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(name, more, SPEC)


def test_a_window_longer_than_the_learned_positions_is_told() -> None:
    with pytest.raises(ConfigError, match="made for 40 steps, got 41"):
        build("patch_transformer", {})(noise(1, length=41))


def test_a_held_recurrence_against_a_loop() -> None:
    """The contexts of a row are those of its measured latents alone, each in its place."""
    layer, x = HeldGRU(3, 5), noise(5)
    valid = torch.rand(5, 40, generator=torch.Generator().manual_seed(1)) < 0.5
    valid[3], valid[4] = True, False
    found = layer(measured(x)[0], valid)
    for row in range(5):
        state = torch.zeros(1, 1, 5)
        for t in range(40):
            if valid[row, t]:
                _, state = layer.gru(x[row : row + 1, :, t : t + 1].mT, state)
                torch.testing.assert_close(found[row, :, t], state[0, 0])
            else:
                assert found[row, :, t].abs().max() == 0


@torch.no_grad()
def test_attention_with_key_padding_against_a_loop() -> None:
    """A layer's attention over the measured patches, one query and one head at a time, in float64."""
    block, generator = Block(8, 2, 16).double(), torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 8, generator=generator, dtype=torch.float64)
    kept = torch.tensor([[True] * 5, [True, False, True, False, False], [False, True, True, True, False]])
    found = block(x, kept[:, None, None, :])
    for row in range(3):
        query, key, value = block.qkv(block.attention_norm(x[row])).view(5, 3, 2, 4).unbind(1)
        for place in range(5):
            heads = []
            for head in range(2):
                weights = {t: float((query[place, head] @ key[t, head]) / 4**0.5) for t in range(5) if kept[row, t]}
                total = sum(math.exp(weight) for weight in weights.values())
                heads.append(sum(math.exp(weight) / total * value[t, head] for t, weight in weights.items()))
            y = x[row, place] + block.out(torch.cat(heads))
            torch.testing.assert_close(found[row, place], y + block.perceptron(y))
