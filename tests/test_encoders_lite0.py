"""EfficientNet-Lite0 of our own against timm's: names, stages, values, gradients, at every stride."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.samples.pixels import PixelSpec
from tests.conftest import cli_environment

PHOTO = PixelSpec.square(3, 64, (0.5,) * 3, (0.5,) * 3)
SIZES = [(64, 64), (65, 47), (33, 90), (1, 7)]
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the optional package timm")


def build(seed: int = 0, **settings: Any) -> Any:
    return build_encoder("efficientnet_lite0", {"pretrained": False, **settings}, PHOTO, seed=seed)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def both(stride: int) -> tuple[Any, Any]:
    """Ours and timm's with the same weights, whose statistics are not those of a fresh network."""
    own, theirs = build(output_stride=stride), build_encoder("timm", {"model": "tf_efficientnet_lite0", "output_stride": stride}, PHOTO)
    own.train()(noise(8, 3, 64, 64))
    theirs.load_state_dict(own.state_dict())
    return own, theirs


@needs_timm
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_stages_have_the_values_of_timm_s(stride: int) -> None:
    own, theirs = both(stride)
    assert list(own.state_dict()) == list(theirs.state_dict())
    assert (own.stages, own.dims, own.strides, own.dim) == (theirs.stages, theirs.dims, theirs.strides, theirs.dim)
    for one in (own, theirs):
        one.eval()
    with torch.no_grad():
        for size in SIZES:
            x = noise(2, 3, *size)
            for a, b in zip(own.maps(x, own.stages), theirs.maps(x, own.stages), strict=True):
                assert a.stride == b.stride
                torch.testing.assert_close(a.values, b.values, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(own(x), theirs(x), rtol=1e-4, atol=1e-4)


@needs_timm
def test_training_follows_timm_s() -> None:
    """One step's gradients and running statistics; every weight has a gradient."""
    own, theirs = both(32)
    x, y = noise(4, 3, 64, 64), noise(4, 1280)
    for one in (own, theirs):
        (one.train()(x) * y).sum().backward()
    for (name, a), b in zip(own.named_parameters(), theirs.parameters(), strict=True):
        assert a.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3 * float(b.grad.abs().max()))
    for (name, one), other in zip(own.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, msg=name)


@needs_timm
def test_weights_are_drawn_with_timm_s_spread() -> None:
    own, theirs = build(), build_encoder("timm", {"model": "tf_efficientnet_lite0"}, PHOTO)
    for (name, a), b in zip(own.state_dict().items(), theirs.state_dict().values(), strict=True):
        if a.ndim == 4 and a.numel() >= 2000:
            assert float(a.std() / b.std()) == pytest.approx(1, abs=0.1), name
        elif a.ndim != 4:
            assert torch.equal(a, b), name


@pytest.mark.parametrize("stride", [16, 8])
def test_a_finer_stride_has_the_same_weights(stride: int) -> None:
    plain, fine = build(), build(output_stride=stride)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), fine.state_dict().values(), strict=True))
    assert fine.strides == {stage: min(stride, had) for stage, had in plain.strides.items()}


def test_a_pass_ends_with_the_last_wanted_stage() -> None:
    encoder = build()
    encoder.train().maps(noise(2, 3, 64, 64), ["blocks.2"])
    seen = {name for name, value in encoder.state_dict().items() if name.endswith("num_batches_tracked") and value == 1}
    assert {name.split(".")[1] for name in seen if name.startswith("blocks.")} == {"0", "1", "2"}


def test_strides_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of 32, 16, 8, got 4"):
        build(output_stride=4)


def test_neither_timm_nor_torchvision_is_loaded() -> None:
    code = """
import sys
from kinshot.encoders.build import build_encoder
from kinshot.samples.pixels import PixelSpec
build_encoder("efficientnet_lite0", {"pretrained": False}, PixelSpec.square(3, 64, (0.5,) * 3, (0.5,) * 3))
heavy = {"timm", "torchvision", "torch._dynamo"} & sys.modules.keys()
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], env=cli_environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
