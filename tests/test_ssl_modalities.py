"""What methods across modalities stand on: projectors for each, who has which, and who is told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.encoders.modality_projector import ModalityProjector, modality_projector
from kinshot.learn import METHODS
from kinshot.learn.model import Model
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec
from kinshot.ssl.modalities import Windows, present

ACC, AIR = SeriesSpec(3, 24, 50.0, (0.0,) * 3, (1.0,) * 3), SeriesSpec(1, 8, 10.0, (0.0,), (1.0,))
SPEC = BundleSpec(("acc", "air"), (ACC, AIR))
EACH = {"each": "series_cnn:widths=[8, 12]:kernels=[4, 4]:strides=[2, 2]"}
CONTEXT = RunContext(12, 6, 2, 20, 0)


def rows(count: int = 6, lacking: tuple[int, ...] = (1, 4)) -> torch.Tensor:
    x = SPEC.noise(count, torch.Generator().manual_seed(0))
    parts = {name: values.clone() for name, values in SPEC.split(x).items()}
    parts["air"][list(lacking)] = float("nan")
    return SPEC.join(parts)


def model(**settings: str) -> Model:
    encoder = build_encoder("fused", {**EACH, **settings}, SPEC)
    with keyed_initialisation(0, "projector"):
        return Model(encoder, modality_projector(encoder, 16, 8, 2, last_norm=False))


def test_each_modality_has_a_projector_that_only_those_pass_that_have_it() -> None:
    network, x = model().train(), rows()
    found = network.outputs(x, ("acc", "air"))
    assert (found["acc"].shape, found["air"].shape) == ((6, 8), (6, 8))
    assert not found["air"][[1, 4]].any()
    assert present(network, x).tolist() == [[True] * 6, [True, False, True, True, False, True]]
    # the statistics of the batch are those of the four that have it
    alone = model().train()
    torch.testing.assert_close(alone.outputs(x[[0, 2, 3, 5]], ("air",))["air"], found["air"][[0, 2, 3, 5]])
    # rows that lack it have no gradient there, whatever is asked of them
    z = torch.randn(6, 24, generator=torch.Generator().manual_seed(2))
    z[[1, 4], 12:] = 0
    z.requires_grad_()
    network.projector(z).square().sum().backward()  # type: ignore[misc]  # it has one
    assert z.grad is not None
    assert z.grad[[0, 2], 12:].any()
    assert not z.grad[[1, 4], 12:].any()


def test_a_projector_looks_at_the_direction_of_its_own_part_alone() -> None:
    projector = ModalityProjector({"one": 3, "two": 2}, 8, 4, 2, last_norm=False).eval()
    z = torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    other = torch.cat([7 * z[:, :3], torch.randn(5, 2)], dim=1)
    torch.testing.assert_close(projector.outputs(other)["one"], projector.outputs(z)["one"])
    assert projector(z).shape == (5, 8)
    plain = ModalityProjector({"one": 3, "two": 2}, 8, 4, 0, last_norm=False)(z)
    torch.testing.assert_close(plain[:, :3].norm(dim=1), torch.ones(5))


def test_windows_that_overlap_are_not_told_apart() -> None:
    start, recording = np.array([0.0, 0.4, 0.9, 0.4]), np.array([0, 0, 0, 1])
    found = Windows(RunContext(4, 4, 1, 1, 0, clock=(start, recording)), SPEC)
    assert found.seconds == SPEC.seconds == 0.8
    assert found.of(torch.tensor([3, 0, 1, 2])).dense()[1].tolist() == [[0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    unknown = Windows(RunContext(4, 4, 1, 1, 0), SPEC).of(torch.arange(3))
    assert torch.equal(unknown.dense()[1], 1 - torch.eye(3))


def test_what_cannot_be_compared_is_refused() -> None:
    encoder = build_encoder("fused", {**EACH, "fusion": "mean"}, SPEC)
    with pytest.raises(ConfigError, match=r"projector\.modalities: expected encoder fused with fusion concat"):
        modality_projector(encoder, 16, 8, 2, last_norm=False)
    with pytest.raises(ConfigError, match=r"set projector\.modalities=true"):
        METHODS.build("cmc", Model(encoder), CONTEXT, settings={})
    with pytest.raises(ConfigError, match="core is a modality of acc, air, got 'gyro'"):
        METHODS.build("cmc", model(), CONTEXT, settings={"core": "gyro"})
    single = BundleSpec(("acc",), (ACC,))
    with pytest.raises(ConfigError, match="compares modalities, got bundles of acc"):
        METHODS.build("cmc", Model(build_encoder("fused", EACH, single)), CONTEXT, settings={})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"each": "resnet18"}, "encoder resnet18 takes image"),
        ({"each": "series_cn"}, "series_cnn"),
        ({"each": "series_cnn:width"}, "is not setting=value"),
        ({"other": ["gyro=tcn"]}, "no modality 'gyro'"),
        ({"other": ["air"]}, "other must be modality=encoder"),
        ({"other": ["air=tcn", "air=auto"]}, "names a modality twice"),
        ({"fusion": "sum"}, "fusion"),
    ],
)
def test_mistyped_encoders_of_modalities_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder("fused", settings, SPEC)


def test_one_modality_may_have_an_encoder_of_its_own() -> None:
    encoder = build_encoder("fused", {**EACH, "other": ["air=tcn:hidden=4:depth=1:features=5"]}, SPEC)
    assert encoder.dims == {"acc": 12, "air": 5}


def test_samples_are_given_by_name_or_as_rows() -> None:
    network, x = model().eval(), rows()
    by_name = {name: values for name, values in SPEC.split(x).items()}
    assert torch.equal(network.embed(by_name)["backbone"], network.embed(x)["backbone"])  # type: ignore[arg-type]
    absent = network.embed({"acc": by_name["acc"]})["backbone"]  # type: ignore[arg-type]
    assert torch.equal(absent, network.embed(SPEC.without(x, ["air"]))["backbone"])
    for given, message in (
        ({"gyro": by_name["acc"]}, "no modality 'gyro'"),
        ({"acc": by_name["acc"], "air": by_name["air"][:2]}, "acc 6, air 2"),
        ({"air": by_name["air"]}, r"samples \[1, 4\] have none of acc, air"),
        ({}, "give a tensor for each"),
        ({"acc": by_name["air"]}, "made for series"),
        (x[:, :5], r"rows \(B, 80\)"),
    ):
        with pytest.raises(DataError, match=message):
            network.embed(given)  # type: ignore[arg-type]
