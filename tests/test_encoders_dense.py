"""Encoders for dense features: dilation keeps what strided stages say, and the small CNN sees enough around each place."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.samples.pixels import PixelSpec

PHOTO = PixelSpec.square(3, 64, (0.5,) * 3, (0.25,) * 3)
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the optional package timm")
RESNETS: list[tuple[str, dict[str, Any]]] = [("resnet18", {"width": 0.125}), ("resnet50", {"width": 0.125, "depth": 0.5})]


def build(name: str, **settings: Any) -> Any:
    return build_encoder(name, settings, PHOTO)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("name", "settings"), RESNETS)
@pytest.mark.parametrize("stride", [16, 8])
@pytest.mark.parametrize("side", [64, 70])
def test_dilated_maps_hold_the_strided_ones(name: str, settings: dict[str, Any], stride: int, side: int) -> None:
    plain, dilated = build(name, **settings).eval(), build(name, **settings, output_stride=stride).eval()
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), dilated.state_dict().values(), strict=True))
    assert list(plain.state_dict()) == list(dilated.state_dict())
    assert dilated.strides == {stage: min(stride, had) for stage, had in plain.strides.items()}
    x = noise(2, 3, side, side)
    with torch.no_grad():
        pairs = zip(plain.maps(x, plain.stages), dilated.maps(x, plain.stages), strict=True)
        for coarse, fine in pairs:
            skip = coarse.stride // fine.stride
            found = fine.values[..., ::skip, ::skip]
            assert found.shape == coarse.values.shape
            torch.testing.assert_close(found, coarse.values, rtol=1e-4, atol=1e-4)


@needs_timm
@pytest.mark.parametrize("stride", [16, 8])
def test_timm_dilates_alike(stride: int) -> None:
    ours = build("resnet18", stem="imagenet", output_stride=stride).eval()
    theirs = build("timm", model="resnet18", output_stride=stride).eval()
    theirs.load_state_dict(ours.state_dict())
    assert theirs.strides["layer4"] == ours.strides["layer4"] == stride
    with torch.no_grad():
        pair = [one.maps(noise(1, 3, 64, 64), ["layer4"])[0].values for one in (ours, theirs)]
    torch.testing.assert_close(pair[0], pair[1], rtol=1e-4, atol=1e-4)


def test_the_default_output_stride_changes_nothing() -> None:
    one, x = build("resnet18", width=0.125), noise(2, 3, 64, 64)
    other = build("resnet18", width=0.125, output_stride=32)
    assert {m.dilation for m in other.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1)}
    assert torch.equal(one(x), other(x))


def test_a_small_stem_ends_at_eight_by_itself() -> None:
    small = build("resnet18", width=0.125, stem="small", output_stride=8)
    assert list(small.strides.values()) == [1, 2, 4, 8]
    assert {m.dilation for m in small.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1)}


@pytest.mark.parametrize(("name", "settings"), [("resnet18", {}), pytest.param("timm", {"model": "resnet10t"}, marks=needs_timm)])
def test_other_output_strides_are_refused(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="output_stride"):
        build(name, **settings, output_stride=4)


@needs_timm
def test_a_model_that_timm_does_not_dilate_is_refused_with_its_stride() -> None:
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224 does not take .* at output stride 8"):
        build_encoder("timm", {"model": "vit_tiny_patch16_224", "output_stride": 8}, PixelSpec.square(3, 224, (0.5,) * 3, (0.25,) * 3))


@pytest.mark.parametrize(("stride", "sees"), [(2, 63), (4, 127)])
def test_a_place_of_the_small_network_sees_a_whole_glyph(stride: int, sees: int) -> None:
    encoder = build("dense_cnn", width=8, stride=stride, norm="batch").eval()  # group normalisation sees all of an image
    side = 160
    x = noise(1, 3, side, side).requires_grad_()
    values = encoder.maps(x, encoder.stages[-1:])[0].values
    values[0, :, side // stride // 2, side // stride // 2].sum().backward()
    assert x.grad is not None
    seen = (x.grad[0].abs().sum(0) > 0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [sees, sees]
    assert sees >= 2 * 30


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_features_of_the_small_network_have_both_signs_and_a_mean_for_a_vector(norm: str) -> None:
    encoder, x = build("dense_cnn", width=16, norm=norm), noise(4, 3, 64, 64)
    values = encoder.maps(x, ["head"])[0].values
    assert 0.2 < float((values < 0).float().mean()) < 0.8
    torch.testing.assert_close(encoder(x), values.mean(dim=(2, 3)))


def test_group_normalisation_says_of_an_image_the_same_in_any_batch_and_mode() -> None:
    encoder, x = build("dense_cnn", width=16), noise(4, 3, 32, 32)
    other = copy.deepcopy(encoder).eval()
    torch.testing.assert_close(encoder(x)[:1], other(x[:1]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"stride": 3}, "stride"),
        ({"norm": "layer"}, "norm"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("dense_cnn", **settings)
