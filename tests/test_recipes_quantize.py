"""int8 encoders give nearly the features of the float ones, in about a quarter of the bytes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES
from kinshot.encoders.build import build_encoder
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.spec import Spec, input_of
from kinshot.samples.tokens import TokenSpec
from kinshot.studies.answers import features_of
from kinshot.studies.footprint import file_bytes_of, footprint
from kinshot.studies.quantize import QuantizedEncoder, quantized

ENGINES = set(torch.backends.quantized.supported_engines) & {"x86", "fbgemm", "onednn", "qnnpack"}
pytestmark = pytest.mark.skipif(not ENGINES, reason="this torch was built without an int8 engine")

SOURCE = SOURCES.build("glyphs", settings={"split": "val", "variants": 4, "size": 28})
IMAGES = SOURCE.load(np.arange(96))
CALIBRATION, TEST = IMAGES[::2], IMAGES[1::2]
ROWS = RowSpec(12, (0.0,) * 12, (1.0,) * 12)
TEXTS = TokenSpec(12, "abcdef")


def settled(name: str, spec: Spec, samples: Tensor, **settings: Any) -> Model:
    """A model whose normalisations know their statistics, as after training."""
    encoder = build_encoder(name, settings, spec)
    model = Model(encoder, nn.Linear(encoder.dim, 8), input=spec).eval()
    x = model.prepare(samples)
    encoder.train()
    with torch.no_grad():
        for _ in range(20):
            encoder(x)
    return Model(encoder, model.projector, input=spec).eval()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=1)


def glyphs_model(name: str, **settings: Any) -> Model:
    return settled(name, input_of(SOURCE), CALIBRATION, **settings)


def test_conv4_keeps_its_features_in_a_third_of_the_bytes() -> None:
    model = glyphs_model("conv4")
    small = quantized(model, CALIBRATION)
    for name, value in model.embed(TEST).items():
        found = small.embed(TEST)[name]
        assert found.dtype == torch.float32
        assert found.shape == value.shape
        assert float(cosine(found, value).min()) > 0.98
    assert file_bytes_of(small.encoder) < 0.35 * file_bytes_of(model.encoder)
    kinds = [type(module).__name__ for module in small.encoder.modules()]
    assert kinds.count("ConvReLU2d") == 4  # normalisation and rectifier are folded into every convolution
    assert not any(isinstance(module, nn.BatchNorm2d | nn.Conv2d) for module in small.encoder.modules())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("conv4", {"width": 8, "depth": 3, "ceil_mode": False}),
        ("resnet12", {"width": 0.25}),
        ("resnet18", {"width": 0.25, "depth": 0.5}),
        ("resnet50", {"width": 0.125, "depth": 0.1}),
    ],
)
def test_other_convolutional_encoders(name: str, settings: dict[str, Any]) -> None:
    model = glyphs_model(name, **settings)
    small = quantized(model, CALIBRATION)
    assert float(cosine(small.embed(TEST)["backbone"], model.embed(TEST)["backbone"]).mean()) > 0.97
    assert small.encoder.dim == model.encoder.dim  # type: ignore[union-attr]
    assert file_bytes_of(small.encoder) < 0.5 * file_bytes_of(model.encoder)


@pytest.mark.parametrize(("name", "spec", "settings"), [("mlp", ROWS, {"widths": [256, 128]}), ("text", TEXTS, {"width": 128, "heads": 2})])
def test_linear_encoders_are_quantised_dynamically(name: str, spec: Spec, settings: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(3, 9, (64, 12), generator=generator) if name == "text" else torch.randn(64, 12, generator=generator)
    model = settled(name, spec, x, **settings)
    small = quantized(model, x)
    assert float(cosine(small.embed(x)["backbone"], model.embed(x)["backbone"]).min()) > 0.99
    assert file_bytes_of(small.encoder) < 0.45 * file_bytes_of(model.encoder)


def test_the_ranges_come_from_the_calibration_samples() -> None:
    model = glyphs_model("conv4", width=8)
    right, wrong = quantized(model, CALIBRATION), quantized(model, torch.full_like(CALIBRATION, 255))
    reference = model.embed(TEST)["backbone"]
    errors = [float((m.embed(TEST)["backbone"] - reference).norm()) for m in (right, wrong)]
    assert errors[0] < errors[1] / 2


def test_the_float_model_the_engine_and_the_warnings_are_left_alone() -> None:
    model = glyphs_model("conv4", width=8)
    before, engine = weights_hash(model.state_dict()), torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = quantized(model, CALIBRATION)
        small.embed(TEST)
    assert weights_hash(model.state_dict()) == before
    assert torch.backends.quantized.engine == engine
    assert not any(p.requires_grad for p in small.encoder.parameters())


def test_state_is_plain_tensors_and_tells_models_apart() -> None:
    """The cache of features is keyed by the hash of the state: int8 features never pass for float ones, or for another run's."""
    models = [glyphs_model("conv4", width=8), glyphs_model("conv4", width=8)]
    with torch.no_grad():
        models[1].encoder.blocks[0].conv.weight.mul_(-1)  # type: ignore[union-attr, index]
    small = [quantized(model, CALIBRATION) for model in models]
    states = [model.state_dict() for model in small]
    assert all(isinstance(value, Tensor) and not value.is_quantized for value in states[0].values())
    assert sum(value.numel() for value in states[0].values() if value.dtype == torch.int8) == 9 * 8 * (1 + 3 * 8)
    assert len({weights_hash(state) for state in [*states, models[0].state_dict()]}) == 3
    assert weights_hash(states[0]) == weights_hash(quantized(models[0], CALIBRATION).state_dict())
    found = features_of(small[0], SOURCE, torch.device("cpu"))["backbone"][:50]
    assert torch.allclose(found, small[0].embed(SOURCE.load(np.arange(50)))["backbone"])


def test_footprint_of_an_int8_model_counts_the_float_model() -> None:
    model = glyphs_model("conv4", width=8)
    small = quantized(model, CALIBRATION)
    plain, found = footprint(model), footprint(small, origin=model)
    assert (found.parameters, found.macs) == (plain.parameters, plain.macs)
    assert found.file_bytes == file_bytes_of(small.encoder) < plain.file_bytes


class Untraceable(nn.Module):
    """Takes another way for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dim = nn.Conv2d(1, 2, 3), 2

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if x.mean() > 0 else -x).mean((2, 3))


def test_an_encoder_that_cannot_be_traced_is_named() -> None:
    spec = PixelSpec.square(1, 28, (0.5,), (0.25,))
    with pytest.raises(ConfigError, match=r"cannot quantise Untraceable.*without --quantize"):
        quantized(Model(Untraceable(), nn.Identity(), input=spec).eval(), CALIBRATION)


def test_without_an_engine_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinshot.studies.quantize._ENGINES", ())
    with pytest.raises(ConfigError, match="without an int8 engine"):
        quantized(glyphs_model("conv4", width=4), CALIBRATION)


def test_the_int8_encoder_keeps_the_contract() -> None:
    small = quantized(glyphs_model("conv4", width=4), CALIBRATION)
    assert isinstance(small.encoder, QuantizedEncoder)
    assert small.encoder.input == small.input
    assert small(TEST[:3]).shape == (3, small.encoder.dim)
