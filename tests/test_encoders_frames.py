"""The encoder of frames: every frame by a network of images, those that there are not by none, and weights that come from images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import kinshot
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.frames import FramesSpec
from kinshot.samples.series import SeriesSpec
from tests.tiny import arguments, run

NAN = float("nan")
SPEC = FramesSpec.unmeasured((3, 5, 32, 32), 4.0)
IMAGES = ("conv4:width=4", "resnet18:width=0.0625")
THERE = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()


def build(image: str = IMAGES[0], seed: int = 0, **settings: Any) -> Any:
    return build_encoder("frame_encoder", {"image": image, **settings}, SPEC, seed=seed)


def samples(there: Tensor = THERE) -> Tensor:
    x = SPEC.noise(len(there), torch.Generator().manual_seed(0))
    return x.masked_fill(~there[:, None, :, None, None], NAN)


@pytest.mark.parametrize("image", IMAGES)
def test_features_are_pooled_over_the_frames_that_there_are(image: str) -> None:
    encoder, x = build(image).eval(), samples()
    frames = [[encoder.image(x[b : b + 1, :, t])[0] for t in range(5) if THERE[b, t]] for b in range(3)]
    nothing = torch.zeros(encoder.dim)
    expected = {
        "mean": [torch.stack(found).mean(0) for found in frames],
        "max": [torch.stack(found).amax(0) for found in frames],
        "last": [found[-1] for found in frames],
    }
    for pooling, rows in expected.items():
        found = build(image, pooling=pooling).eval()(x)
        torch.testing.assert_close(found, torch.stack([*rows, nothing]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("image", IMAGES)
def test_maps_say_which_frames_there_are_and_are_zero_elsewhere(image: str) -> None:
    (maps,) = build(image).maps(samples(), ("sequence",))
    assert torch.equal(maps.valid, THERE)
    assert maps.values.isfinite().all()
    assert maps.values.movedim(1, 2)[~THERE].abs().max() == 0
    assert maps.values.movedim(1, 2)[THERE].abs().amax(1).min() > 0


@pytest.mark.parametrize("image", IMAGES)
def test_absent_frames_pass_no_network_and_enter_no_statistic(image: str) -> None:
    encoder, plain, x = build(image).train(), build(image).image.train(), samples()
    seen: list[int] = []
    encoder.image.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    encoder(x).square().sum().backward()
    assert seen == [int(THERE.sum())]
    plain(x.transpose(1, 2)[THERE])
    for (key, ours), (_, theirs) in zip(encoder.image.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=key)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_batches_of_one_frame_and_of_none() -> None:
    encoder = build(IMAGES[1]).train()
    before = {key: value.clone() for key, value in encoder.named_buffers()}
    one = THERE & False
    one[2, 3] = True
    found = encoder(samples(one))
    torch.testing.assert_close(found[2], build(IMAGES[1]).eval()(samples(one))[2])
    assert encoder(samples(THERE & False)).abs().max() == 0
    assert all(torch.equal(before[key], value) for key, value in encoder.named_buffers())
    assert encoder.image.training


def test_pixels_that_alone_are_missing_are_the_mean() -> None:
    encoder, x = build().eval(), samples()
    x[0, :, 2, :4] = 0.0
    gaps = x.clone()
    gaps[0, :, 2, :4] = NAN
    assert torch.equal(encoder(gaps), encoder(x))


def test_weights_of_images_go_where_frames_need_them(tmp_path: Path) -> None:
    """A run on digits, and frames that are normalised as its images were."""
    done = run("ssl", *arguments("simclr", "train.epochs=1", "--out", "run", "-q"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    images = kinshot.load(tmp_path / "run").encoder
    spec = FramesSpec.of(images.input, 3, 5.0)
    width = images.blocks[0].conv.out_channels
    for encoder in (
        build_encoder("frame_encoder", {"image": f"conv4:width={width}"}, spec, seed=5).eval(),
        build_encoder("fused", {"other": [f"cam=frame_encoder:image='conv4:width={width}'"]}, both(spec), seed=5).eval().modalities["cam"],
    ):
        assert {key for key in encoder.state_dict()} == {f"image.{key}" for key in images.state_dict()}
        encoder.image.load_state_dict(images.state_dict())
        shown = torch.randint(0, 256, (2, *spec.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        expected = torch.stack([images(images.input.prepare(shown[:, :, t])) for t in range(3)]).mean(0)
        torch.testing.assert_close(encoder(spec.prepare(shown)), expected, rtol=1e-4, atol=1e-5)


def both(cam: FramesSpec) -> BundleSpec:
    return BundleSpec(("belt", "cam"), (SeriesSpec.unmeasured((3, 40), 20.0), cam))


def test_a_bundle_holds_frames_and_lets_them_be_absent() -> None:
    spec = both(SPEC)
    encoder = build_encoder("fused", {"other": ["cam=frame_encoder:image='conv4:width=4':pooling=last"]}, spec).eval()
    x = spec.noise(3, torch.Generator().manual_seed(1))
    without = spec.without(x, ["cam"])
    assert spec.present(without)["cam"].tolist() == [False] * 3
    features = encoder.features(without)
    torch.testing.assert_close(features["belt"], encoder.features(x)["belt"])
    assert features["cam"].abs().max() == 0
    assert build_encoder("auto", {}, spec).modalities["cam"].image.dim == 256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": "conv5"}, "conv4"),
        ({"image": "series_cnn"}, "encoder series_cnn takes series, and the samples are image"),
        ({"image": "conv4:width"}, "write for example conv4:width=64"),
        ({"image": "conv4:"}, "write for example conv4:width=32"),
        ({"pooling": "median"}, "pooling"),
    ],
)
def test_settings_that_are_none_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder("frame_encoder", settings, SPEC)
