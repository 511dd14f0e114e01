"""Narrower and shallower encoders: sizes by hand formula, names and weights as before at the defaults, settings by factor."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.encoders.scaling import scaled
from kinshot.encoders.student import student_of
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec
from kinshot.samples.tokens import TokenSpec

GRAY = PixelSpec.square(1, 28, (0.5,), (0.25,))
COLOUR = PixelSpec.square(3, 84, (0.5,) * 3, (0.25,) * 3)
ROWS = RowSpec(10, (0.0,) * 10, (1.0,) * 10)
TEXTS = TokenSpec(12, "abcdef")
IMAGES = ("conv4", "dense_cnn", "resnet12", "resnet18", "resnet50")
SERIES = SeriesSpec(3, 40, 50.0, (0.0,) * 3, (1.0,) * 3)
OF_SERIES = ("series_cnn", "series_resnet", "tcn", "conv_gru", "patch_transformer")
SPEC: dict[str, Spec] = {**dict.fromkeys(IMAGES, GRAY), "mlp": ROWS, "text": TEXTS, **dict.fromkeys(OF_SERIES, SERIES)}


def count(name: str, **settings: Any) -> int:
    return sum(p.numel() for p in build_encoder(name, settings, SPEC[name]).parameters())


def samples(spec: Spec, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if isinstance(spec, TokenSpec):
        return torch.randint(1, spec.vocabulary, (batch, spec.length), generator=generator)
    return torch.randn((batch, *spec.shape), generator=generator)


def test_every_encoder_is_scaled_here() -> None:
    # models of other libraries are what they are; auto stands for one of the others, fused, frame_encoder and pooled are made of them
    composed = {"auto", "fused", "frame_encoder", "pooled", "meta_path"}  # the last has one width, which is its output's
    assert set(ENCODERS.names()) - {"timm", "torchvision", "efficientnet_lite0", "onnx"} - composed <= SPEC.keys()


@pytest.mark.parametrize("width", [1, 3, 32, 64])
@pytest.mark.parametrize("depth", [1, 3, 4, 6])
def test_conv4_by_hand(width: int, depth: int) -> None:
    convolutions = 9 * width * (1 + (depth - 1) * width)
    assert count("conv4", width=width, depth=depth) == convolutions + 2 * width * depth
    side = 28
    for _ in range(depth):
        side = -(-side // 2)
    assert build_encoder("conv4", {"width": width, "depth": depth}, GRAY).dim == width * side * side


@pytest.mark.parametrize("width", [1, 19, 20, 64])
@pytest.mark.parametrize(("depth", "stride"), [(1, 2), (4, 2), (2, 4)])
def test_dense_cnn_by_hand(width: int, depth: int, stride: int) -> None:
    stem = 9 * width + (9 * width * width + 2 * width if stride == 4 else 0)
    head = width * width + 2 * width
    assert count("dense_cnn", width=width, depth=depth, stride=stride) == stem + depth * (10 * width**2 + 4 * width) + head


@pytest.mark.parametrize(("width", "depth"), [(1.0, 4), (0.5, 4), (0.25, 3), (1.0, 1)])
def test_resnet12_by_hand(width: float, depth: int) -> None:
    widths = [int(width * w) for w in (64, 128, 256, 512)][:depth]
    expected = 0
    for before, after in zip([1, *widths], widths, strict=False):
        expected += 9 * (before * after + 2 * after * after) + before * after + 4 * 2 * after
    assert count("resnet12", width=width, depth=depth) == expected
    encoder: Any = build_encoder("resnet12", {"width": width, "depth": depth}, GRAY)
    assert (encoder.dim, tuple(encoder.strides.values())) == (widths[-1], (2, 4, 8, 16)[:depth])


def basic(before: int, after: int, stride: int) -> int:
    shortcut = before * after + 2 * after if stride > 1 or before != after else 0
    return 9 * (before * after + after * after) + 4 * after + shortcut


def bottleneck(before: int, planes: int, stride: int) -> int:
    after = 4 * planes
    shortcut = before * after + 2 * after if stride > 1 or before != after else 0
    return before * planes + 9 * planes * planes + planes * after + 4 * planes + 2 * after + shortcut


@pytest.mark.parametrize(("name", "layers"), [("resnet18", (2, 2, 2, 2)), ("resnet50", (3, 4, 6, 3))])
@pytest.mark.parametrize(("width", "depth"), [(0.25, 1.0), (0.25, 0.5), (1.0, 0.1), (0.13, 1.5)])
def test_torchvision_resnets_by_hand(name: str, layers: tuple[int, ...], width: float, depth: float) -> None:
    block, expansion = (basic, 1) if name == "resnet18" else (bottleneck, 4)
    stem, *planes = (max(1, int(width * c + 0.5)) for c in (64, 64, 128, 256, 512))
    expected, before = 9 * stem + 2 * stem, stem
    for number, (c, blocks) in enumerate(zip(planes, layers, strict=True)):
        for i in range(max(1, int(depth * blocks + 0.5))):
            expected += block(before, c, 2 if number and i == 0 else 1)
            before = c * expansion
    assert count(name, width=width, depth=depth) == expected
    assert build_encoder(name, {"width": width, "depth": depth}, GRAY).dim == before


def test_resnet18_at_its_defaults_has_the_weights_that_it_always_had() -> None:
    """Drawn in the order of torchvision's constructor and then the stem, from the same seed."""
    from torchvision.models import resnet18

    with keyed_initialisation(0, "init"):
        reference = resnet18(weights=None)
        stem = torch.nn.Conv2d(1, 64, 3, 1, 1, bias=False)
        torch.nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    expected = {key: value for key, value in reference.state_dict().items() if not key.startswith("fc.")} | {"conv1.weight": stem.weight}
    state = build_encoder("resnet18", {}, GRAY).state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in state)


def test_narrow_resnets_have_torchvision_names_and_initial_spread() -> None:
    wide, narrow = (build_encoder("resnet18", {"width": width}, COLOUR).state_dict() for width in (1.0, 0.5))
    assert list(narrow) == list(wide)
    for name in ("layer2.0.conv1.weight", "layer4.1.conv2.weight", "conv1.weight"):
        weight = narrow[name]
        expected = (2 / (weight.shape[0] * weight.shape[2] * weight.shape[3])) ** 0.5  # fan out, rectifier
        assert float(weight.std()) == pytest.approx(expected, rel=0.05)


def test_mlp_keeps_its_last_layers() -> None:
    assert count("mlp", widths=[40, 20], width=0.5) == 10 * 20 + 20 * 10 + 2 * 30
    assert count("mlp", widths=[40, 20], depth=0.5) == 10 * 20 + 2 * 20
    assert build_encoder("mlp", {"widths": [40, 20], "width": 0.25}, ROWS).dim == 5
    assert count("mlp", widths=[40, 20], depth=3.0) == count("mlp", widths=[40, 20])


def test_series_networks_by_hand() -> None:
    """Narrower, and with the last layers kept."""
    assert count("series_cnn", width=0.5, depth=0.7) == (3 * 16 * 32 + 32 * 8 * 48) + 2 * (32 + 48)
    convolutions = 8 * 3 * 64 + (5 + 3) * 64 * 64 + 3 * 64
    assert count("series_resnet", width=0.5, depth=0.3) == convolutions + 4 * 2 * 64
    entry, last = 3 * 4 + 4, 3 * 4 * 10 + 10 + 3 * 10 * 10 + 10 + 4 * 10 + 10
    assert count("tcn", hidden=8, features=20, depth=2, width=0.5) == entry + 2 * (2 * (3 * 4 * 4 + 4)) + last
    front, gru = 3 * 3 * 16 + 16 + 3 * 16 * 32 + 32 + 3 * 32 * 64 + 64, 2 * 3 * 64 * 64 + 2 * 3 * 64
    assert count("conv_gru", width=0.5) == front + gru
    assert count("conv_gru", width=0.5, layers=2) == front + 2 * gru


@pytest.mark.parametrize("name", SPEC)
def test_half_the_width_is_about_a_quarter_of_the_parameters(name: str) -> None:
    narrow = student_of(name, {}, width=0.5)
    wide, half = count(name), count(name, **narrow)
    assert 0.24 < half / wide < 0.3
    assert 0.24 < count(name, **student_of(name, narrow, width=0.5)) / half < 0.36


def test_half_the_width_of_conv4_is_a_quarter() -> None:
    assert count("conv4", **student_of("conv4", {}, width=0.5)) / count("conv4") == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("name", SPEC)
def test_students_train_a_step(name: str) -> None:
    spec = SPEC[name]
    settings = student_of(name, {}, width=0.25, depth=0.5)
    teacher = build_encoder(name, {}, spec) if name != "resnet50" else None
    encoder = build_encoder(name, settings, spec)
    assert teacher is None or sum(p.numel() for p in encoder.parameters()) < sum(p.numel() for p in teacher.parameters()) / 4
    before = {key: value.clone() for key, value in encoder.named_parameters()}
    step(encoder, samples(spec))
    assert any(not torch.equal(before[key], value) for key, value in encoder.named_parameters())
    assert encoder.eval()(samples(spec)).shape == (4, encoder.dim)


def step(encoder: Any, x: Tensor) -> None:
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    encoder.train()(x).square().mean().backward()
    optimizer.step()


def test_student_settings() -> None:
    assert student_of("conv4", {"width": 32, "ceil_mode": False}, 0.5) == {"width": 16, "ceil_mode": False}
    assert student_of("conv4", {}, 0.001, 0.001) == {"width": 1, "depth": 1}
    assert student_of("resnet18", {"width": 0.5}, 0.5, 0.25) == {"width": 0.25, "depth": 0.25}
    assert student_of("resnet12", {}, depth=0.5) == {"depth": 2}
    assert student_of("text", {"heads": 8}, 0.3, 0.5) == {"heads": 8, "width": 16, "layers": 1}
    assert student_of("text", {}, 0.01) == {"width": 4}
    assert student_of("timm", {"model": "resnet18"}) == {"model": "resnet18"}
    given = {"width": 64}
    student_of("conv4", given, 0.5)
    assert given == {"width": 64}


@pytest.mark.parametrize(
    ("name", "width", "depth", "message"),
    [
        ("timm", 0.5, 1.0, "fixed sizes.*mobilenetv3_small_100.*efficientnet_lite0"),
        ("conv5", 0.5, 1.0, "did you mean 'conv4'"),
        ("conv4", 0.0, 1.0, "width is a factor and must be above 0"),
        ("conv4", 1.0, -1.0, "depth is a factor and must be above 0"),
        ("conv4", float("nan"), 1.0, "must be above 0, got nan"),
    ],
)
def test_bad_factors_say_what_to_do(name: str, width: float, depth: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        student_of(name, {}, width, depth)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("conv4", {"depth": 0}, "depth must be at least 1"),
        ("conv4", {"depth": 5, "ceil_mode": False}, "use at least 32"),
        ("resnet12", {"depth": 5}, "from 1 to 4, got 5"),
        ("resnet12", {"width": 0.0}, "width is a factor"),
        ("resnet18", {"depth": 0.0}, "depth is a factor"),
        ("mlp", {"width": -1.0}, "width is a factor"),
    ],
)
def test_bad_settings_say_what_to_do(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(name, settings, SPEC[name])


def test_a_shallow_resnet12_takes_smaller_images() -> None:
    tiny = PixelSpec.square(1, 8, (0.5,), (0.5,))
    assert build_encoder("resnet12", {"depth": 3, "width": 0.1}, tiny).eval()(samples(tiny)).shape == (4, 26)
    with pytest.raises(ConfigError, match="needs 16 pixels, got 8"):
        build_encoder("resnet12", {}, tiny)


def test_scaled() -> None:
    assert [scaled(3, 0.5), scaled(5, 0.5), scaled(64, 0.25), scaled(2, 0.1)] == [2, 3, 16, 1]
    assert [scaled(64, 0.3, multiple=8), scaled(64, 0.01, multiple=8)] == [16, 8]


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the optional package timm")
@pytest.mark.parametrize("model", ["mobilenetv3_small_050", "mobilenetv3_small_100", "efficientnet_lite0"])
@pytest.mark.parametrize("spec", [GRAY, COLOUR], ids=["gray 28", "colour 84"])
def test_timm_students_train_and_are_read_by_timm(model: str, spec: PixelSpec, tmp_path: Path) -> None:
    import timm

    encoder: Any = build_encoder("timm", {"model": model}, spec)
    x = samples(spec)
    step(encoder, x)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    other = build_encoder("timm", {"model": model}, spec, seed=9)
    other.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    options: dict[str, Any] = {"num_classes": 0, "in_chans": spec.channels, "checkpoint_path": str(tmp_path / "encoder.safetensors")}
    reference = timm.create_model(model, pretrained=False, **options)
    with torch.no_grad():
        features = encoder.eval()(x)
        assert features.shape == (4, encoder.dim)
        assert features.isfinite().all()
        assert torch.equal(other.eval()(x), features)
        assert torch.equal(reference.eval()(x), features)
