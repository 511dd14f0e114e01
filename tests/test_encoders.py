"""Encoders keep one contract; the adapters keep the names and the features of the libraries they adapt."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.encoders.projector import mlp_projector
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.frames import FramesSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec, accepted_kinds
from kinshot.samples.tokens import TokenSpec
from tests.graph_trees import graph_spec

GRAY = PixelSpec.square(1, 28, (0.5,), (0.25,))
SMALL = PixelSpec.square(3, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
LARGE = PixelSpec.square(3, 96, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
ROWS = RowSpec(7, (0.0,) * 7, (1.0,) * 7)
TEXTS = TokenSpec(12, "abcdef")
SERIES = SeriesSpec(3, 40, 50.0, (0.0,) * 3, (1.0,) * 3)
BUNDLE = BundleSpec(("acc", "air"), (SERIES, SeriesSpec.unmeasured((1, 9), 10.0)))
FRAMES = FramesSpec.unmeasured((3, 4, 32, 32), 2.0)
SPECS: dict[str, list[Spec]] = {"image": [GRAY, SMALL], "features": [ROWS], "tokens": [TEXTS], "series": [SERIES]}
SPECS |= {"frames": [FRAMES], "bundle": [BUNDLE], "node": [graph_spec(averaged=("a",))]}
REQUIRED: dict[str, dict[str, Any]] = {
    "timm": {"model": "resnet10t"},
    "torchvision": {"model": "mobilenet_v3_small"},
    "efficientnet_lite0": {"pretrained": False},  # else its weights are the package's and no seed's
}

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the optional package timm")
# what an ONNX file gives is fixed, and has no gradient: tests/test_onnx_external.py
KINDS = {name: accepted_kinds(ENCODERS.get(name)) for name in ENCODERS.names() if name != "onnx"}


def marked(name: str, *more: Any) -> Any:
    return pytest.param(name, *more, marks=[needs_timm] if name == "timm" else [])


EACH = [marked(name, spec) for name, kinds in KINDS.items() for kind in kinds for spec in SPECS[kind][:1]]
EVERY = [marked(name, spec) for name, kinds in KINDS.items() for kind in kinds for spec in SPECS[kind]]
each_encoder = pytest.mark.parametrize(("name", "spec"), EACH)


def build(name: str, spec: Spec, *, seed: int = 0, **settings: Any) -> Any:
    return build_encoder(name, {**REQUIRED.get(name, {}), **settings}, spec, seed=seed)


def images(spec: PixelSpec, batch: int = 2, seed: int = 0) -> Tensor:
    return samples(spec, batch, seed)


def samples(spec: Spec, batch: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(spec, TokenSpec):
        return torch.randint(1, spec.vocabulary, (batch, spec.length), generator=generator)
    if spec.kind == "node":
        return spec.noise(batch, generator)
    return torch.randn((batch, *spec.shape), generator=generator)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_names() -> None:
    assert {"conv4", "resnet12", "resnet18", "resnet50", "timm", "mlp", "text"} <= set(ENCODERS.names())


@pytest.mark.parametrize(("name", "spec"), EVERY)
def test_contract(name: str, spec: Spec) -> None:
    encoder = build(name, spec)
    assert encoder.input == spec
    features = encoder(samples(spec))
    assert features.shape == (2, encoder.dim)
    assert features.dtype == torch.float32
    assert isinstance(encoder.dim, int)
    assert encoder.training
    assert features.isfinite().all()
    features.square().sum().backward()
    assert [key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@each_encoder
def test_weights_depend_on_the_seed_alone(name: str, spec: Spec) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build(name, spec, seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)
    assert equal(first, build(name, spec, seed=3).state_dict())
    assert not equal(first, build(name, spec, seed=4).state_dict())


@each_encoder
def test_state_survives_a_file_a_copy_and_a_parent(name: str, spec: Spec, tmp_path: Path) -> None:
    encoder, x = build(name, spec).eval(), samples(spec)
    expected = encoder(x)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    other = build(name, spec, seed=9).eval()
    assert not torch.equal(other(x), expected)
    other.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    assert torch.equal(other(x), expected)

    parent, target = nn.ModuleDict({"encoder": encoder}), nn.ModuleDict({"encoder": copy.deepcopy(build(name, spec, seed=9).eval())})
    assert set(parent.state_dict()) == {f"encoder.{key}" for key in encoder.state_dict()}
    target.load_state_dict(parent.state_dict())
    assert torch.equal(target["encoder"](x), expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_names_and_features(name: str) -> None:
    encoder = build(name, SMALL, stem="imagenet").eval()
    reference = getattr(torchvision.models, name)(weights=None)
    missing, unexpected = reference.load_state_dict(encoder.state_dict(), strict=False)
    assert sorted(missing) == ["fc.bias", "fc.weight"]
    assert not unexpected
    reference.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images(SMALL)), reference.eval()(images(SMALL)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "classifier"), [("mobilenet_v3_small", "classifier.3"), ("resnet18", "fc"), ("shufflenet_v2_x0_5", "fc")]
)
def test_models_of_torchvision_keep_its_names_and_features(model: str, classifier: str) -> None:
    encoder = build("torchvision", SMALL, model=model).eval()
    reference = torchvision.models.get_model(model, weights=None).eval()
    missing, unexpected = reference.load_state_dict(encoder.state_dict(), strict=False)
    assert sorted(missing) == [f"{classifier}.bias", f"{classifier}.weight"]
    assert (list(encoder.classifier), unexpected) == ([classifier], [])
    reference.get_submodule(classifier).weight.data = torch.eye(1000, encoder.dim)
    reference.get_submodule(classifier).bias.data.zero_()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images(SMALL))[:, :1000], reference(images(SMALL))[:, : encoder.dim], rtol=0, atol=1e-6)
    assert encoder.get_submodule(classifier.split(".")[0]) is encoder.get_submodule(f"model.{classifier.split('.')[0]}")


@needs_timm
def test_features_equal_timm_with_the_same_weights() -> None:
    import timm

    encoder = build("resnet18", LARGE, stem="imagenet").eval()
    reference = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    reference.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(encoder(images(LARGE)), reference(images(LARGE)), rtol=1e-4, atol=1e-5)


@needs_timm
def test_timm_reads_a_saved_encoder(tmp_path: Path) -> None:
    import timm

    encoder = build("timm", LARGE, model="resnet18").eval()
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    reference = timm.create_model("resnet18", pretrained=False, num_classes=0, checkpoint_path=str(tmp_path / "encoder.safetensors"))
    with torch.no_grad():
        assert torch.equal(encoder(images(LARGE)), reference.eval()(images(LARGE)))


@pytest.mark.parametrize(
    ("size", "stem", "kernel", "strides"),
    [
        (32, "auto", 3, (1, 2, 4, 8)),
        (63, "auto", 3, (1, 2, 4, 8)),
        (64, "auto", 7, (4, 8, 16, 32)),
        (32, "imagenet", 7, (4, 8, 16, 32)),
        (96, "small", 3, (1, 2, 4, 8)),
    ],
)
def test_stem(size: int, stem: str, kernel: int, strides: tuple[int, ...]) -> None:
    encoder = build("resnet18", PixelSpec.square(1, size, (0.5,), (0.5,)), stem=stem)
    assert encoder.conv1.weight.shape == (64, 1, kernel, kernel)
    assert tuple(encoder.strides.values()) == strides
    assert isinstance(encoder.maxpool, nn.Identity) == (kernel == 3)


def reference_block(block: dict[str, Tensor], x: Tensor) -> Tensor:
    """One ResNet-12 block in evaluation mode, fresh statistics (mean 0, variance 1), from the functional operators."""

    def norm(y: Tensor) -> Tensor:
        return y / (1 + 1e-5) ** 0.5

    def leaky(y: Tensor) -> Tensor:
        return torch.where(y > 0, y, 0.1 * y)

    y = leaky(norm(torch.conv2d(x, block["conv1.weight"], padding=1)))
    y = leaky(norm(torch.conv2d(y, block["conv2.weight"], padding=1)))
    y = norm(torch.conv2d(y, block["conv3.weight"], padding=1)) + norm(torch.conv2d(x, block["downsample.0.weight"]))
    height, width = y.shape[-2] // 2, y.shape[-1] // 2
    y = leaky(y)[..., : 2 * height, : 2 * width]
    return y.reshape(*y.shape[:2], height, 2, width, 2).amax(dim=(3, 5))


def test_resnet12_against_its_formula() -> None:
    encoder = build("resnet12", GRAY, widths=[4, 6, 8, 10]).double().eval()
    x = images(GRAY).double()
    with torch.no_grad():
        y = x
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            y = reference_block(getattr(encoder, stage).state_dict(), y)
        torch.testing.assert_close(encoder(x), y.mean(dim=(2, 3)))
    assert encoder.dim == 10


def test_resnet12_size() -> None:
    """The wide variant is the one with 12.4 million parameters that papers report."""
    encoder = build("resnet12", LARGE, widths=[64, 160, 320, 640])
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(12.4e6, rel=0.01)


@pytest.mark.parametrize(
    ("name", "spec", "settings", "message"),
    [
        ("resnet12", PixelSpec.square(1, 15, (0.5,), (0.5,)), {}, "16 pixels, got 15"),
        ("resnet12", GRAY, {"widths": [64, 0, 64, 64]}, "widths must be positive"),
        ("resnet12", GRAY, {"widths": [64]}, "expected 4 values"),
        ("resnet18", GRAY, {"stem": "tiny"}, "expected one of auto, imagenet, small"),
        ("resnet19", GRAY, {}, "did you mean 'resnet1"),
        ("mlp", ROWS, {"widths": []}, "widths must be positive"),
        ("mlp", ROWS, {"widths": [8, 0]}, "widths must be positive"),
        ("text", TEXTS, {"width": 10, "heads": 4}, "heads divide width"),
        ("text", TEXTS, {"layers": 0}, "must be at least 1"),
        ("conv4", ROWS, {}, "takes image, and the samples are features: choose auto or mlp"),
        ("mlp", TEXTS, {}, "takes features, and the samples are tokens: choose auto or pooled or text"),
        ("text", GRAY, {}, "the samples are image: choose auto or conv4 or dense_cnn or efficientnet_lite0 or onnx"),
        ("torchvision", GRAY, {"model": "resnet19"}, "did you mean 'resnet1"),
        ("torchvision", GRAY, {"model": "squeezenet1_1"}, "does not end in a linear classifier"),
        ("torchvision", GRAY, {"model": "vit_b_16"}, "does not take images of 1 x 28 x 28"),
        pytest.param("timm", GRAY, {"model": "resnet26dd"}, "did you mean 'resnet26d'", marks=needs_timm),
        pytest.param("timm", GRAY, {"model": "xcit_nano_12_p16_224"}, "does not take images of 1 x 28 x 28", marks=needs_timm),
        pytest.param("timm", GRAY, {"model": "levit_128s"}, "does not take images of 1 x 28 x 28", marks=needs_timm),
    ],
)
def test_bad_settings_say_what_to_do(name: str, spec: Spec, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(name, settings, spec)


def test_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="pip install timm"):
        build("timm", GRAY)


@needs_timm
@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto"])
def test_timm_families(model: str) -> None:
    encoder = build("timm", LARGE, model=model).eval()
    with torch.no_grad():
        assert encoder(images(LARGE)).shape == (2, encoder.dim)
        maps = encoder.maps(images(LARGE), encoder.stages)
    assert [m.values.shape[-1] for m in maps] == [96 // m.stride for m in maps]


def test_projector_structure() -> None:
    def kinds(network: nn.Module) -> list[str]:
        return [type(part).__name__ for part in network]  # type: ignore[attr-defined]

    assert isinstance(mlp_projector(8, 16, 4, 0, last_norm=True), nn.Identity)
    assert kinds(mlp_projector(8, 16, 4, 1, last_norm=False)) == ["Linear"]
    assert kinds(mlp_projector(8, 16, 4, 2, last_norm=True)) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    three = mlp_projector(8, 16, 4, 3, last_norm=False)
    assert kinds(three) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [part.bias is not None for part in three if isinstance(part, nn.Linear)] == [False, False, True]  # type: ignore[attr-defined]
    assert three(torch.randn(5, 8)).shape == (5, 4)


@pytest.mark.parametrize("bad", [{"layers": -1}, {"out": 0}, {"hidden": 0}])
def test_projector_checks_its_widths(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="correct the recipe"):
        mlp_projector(**{"dim": 8, "hidden": 16, "out": 4, "layers": 2, **bad}, last_norm=True)


def test_keyed_initialisation_restores_the_state_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ConfigError), keyed_initialisation(0, "projector"):
        raise ConfigError(f"after a draw of {torch.rand(1)}")
    assert torch.equal(before, torch.get_rng_state())
