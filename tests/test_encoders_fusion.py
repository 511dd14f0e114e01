"""Every registered encoder in every fusion: a field that is absent or not measured changes nothing beyond its absence."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import build_encoder, keyed_initialisation
from kinshot.encoders.fused_fields import Fused
from kinshot.encoders.fusion import FUSIONS, Attention, Mean
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.frames import FramesSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec, accepted_kinds
from kinshot.samples.tokens import TokenSpec

NAN = float("nan")
SPECS: dict[str, Spec] = {
    "image": PixelSpec.square(3, 32, (0.5,) * 3, (0.25,) * 3),
    "features": RowSpec(7, (0.0,) * 7, (1.0,) * 7),
    "tokens": TokenSpec(12, "abcdef"),
    "series": SeriesSpec(3, 24, 50.0, (0.0,) * 3, (1.0,) * 3),
    "frames": FramesSpec.unmeasured((3, 3, 32, 32), 2.0),
}
SLOW = SeriesSpec(1, 7, 12.5, (0.0,), (1.0,))
SETTINGS: dict[str, dict[str, Any]] = {
    "conv4": {"width": 8},
    "dense_cnn": {"width": 8, "depth": 1},
    "resnet12": {"width": 0.0625},
    "resnet18": {"width": 0.0625},
    "resnet50": {"width": 0.0625, "depth": 0.34},
    "tcn": {"hidden": 8, "depth": 2, "features": 12},
    "series_resnet": {"width": 0.125},
    "frame_encoder": {"image": "conv4:width=8"},
    "patch_transformer": {"width": 16, "layers": 1},
}
OUTSIDE = ("timm", "torchvision", "onnx", "efficientnet_lite0")  # other people's networks, of images
NAMES = [
    (name, kind)
    for name in ENCODERS.names()
    if name not in OUTSIDE
    for kind in accepted_kinds(ENCODERS.get(name))
    if kind not in ("bundle", "node")  # a node is what its whole graph makes of it, no field of a sample
]
SUBSETS = [held for held in itertools.product([True, False], repeat=3) if any(held)]
PRESENT = {name: torch.tensor([held[place] for held in SUBSETS]) for place, name in enumerate(("one", "slow", "rows"))}


def fused(name: str, kind: str, fusion: str) -> Fused:
    """The encoder beside one of series at another rate and one of rows, all of its width."""
    with keyed_initialisation(0, "fusion"):
        one = build_encoder(name, SETTINGS.get(name, {}), SPECS[kind])
        slow = build_encoder("series_cnn", {"widths": [one.dim], "kernels": [3], "strides": [2]}, SLOW)
        rows = build_encoder("mlp", {"widths": [one.dim]}, SPECS["features"])
        return Fused({"one": one, "slow": slow, "rows": rows}, fusion=fusion).eval()  # type: ignore[arg-type]


def samples(kind: str) -> dict[str, Tensor]:
    """Seven samples, each with another subset of the fields."""
    generator = torch.Generator().manual_seed(0)
    spec = SPECS[kind]
    one = torch.randint(3, 9, (7, 12), generator=generator) if kind == "tokens" else torch.randn(7, *spec.shape, generator=generator)
    return {"one": one, "slow": torch.randn(7, 1, 7, generator=generator), "rows": torch.randn(7, 7, generator=generator)}


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize(("name", "kind"), NAMES)
def test_absence_changes_nothing_but_itself(name: str, kind: str, fusion: str) -> None:
    network, x = fused(name, kind, fusion), samples(kind)
    spoilt = {
        field: value.masked_fill(~PRESENT[field].view(-1, *[1] * (value.ndim - 1)), NAN if value.is_floating_point() else 0).requires_grad_(
            value.is_floating_point()
        )
        for field, value in x.items()
    }
    z, joined = network.features(spoilt, PRESENT), network(spoilt, PRESENT)
    for field, encoder in network.encoders.items():
        with torch.no_grad():
            alone = encoder(x[field])
        torch.testing.assert_close(z[field][PRESENT[field]], alone[PRESENT[field]], rtol=1e-4, atol=1e-5)
        assert z[field][~PRESENT[field]].abs().max() == 0
    for row, held in enumerate(SUBSETS):
        one = {field: x[field][row : row + 1] for field, there in zip(x, held, strict=True) if there}
        with torch.no_grad():
            torch.testing.assert_close(joined[row : row + 1], network(one), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(joined.norm(dim=1), torch.ones(7))
    (joined * torch.linspace(-1, 2, joined.numel()).view_as(joined)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    for field, value in spoilt.items():
        assert value.grad is None or value.grad[~PRESENT[field]].abs().max() == 0
        assert value.grad is None or value.grad.isfinite().all()


SERIES = [name for name, kind in NAMES if kind == "series"]


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize("name", SERIES)
def test_a_series_of_nothing_is_an_absent_one_though_it_is_said_to_be_there(name: str, fusion: str) -> None:
    network, x = fused(name, "series", fusion), samples("series")
    spoilt = {**x, "one": x["one"].masked_fill(~PRESENT["one"].view(-1, 1, 1), NAN)}
    whole = torch.ones(7, dtype=torch.bool)
    with torch.no_grad():
        expected = network(x, {"one": PRESENT["one"]})
        assert torch.equal(network(spoilt), expected)
        assert torch.equal(network(spoilt, {"one": whole}), expected)
        assert torch.equal(network.join(network.features(spoilt), network.presence(spoilt)), expected)
    assert torch.equal(network.presence(spoilt)["one"], PRESENT["one"])
    with pytest.raises(DataError, match=r"samples .* have none of one, slow, rows"):
        network({"one": spoilt["one"]})


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize("name", SERIES)
def test_in_training_absent_rows_reach_no_statistic(name: str, fusion: str) -> None:
    """Those of the encoder are what they are on the rows that are there."""
    network, x = fused(name, "series", fusion).train(), samples("series")
    other = fused(name, "series", fusion).encoders["one"].train()
    network({**x, "one": x["one"].masked_fill(~PRESENT["one"].view(-1, 1, 1), NAN)})
    other(x["one"][PRESENT["one"]])
    for (key, ours), (_, theirs) in zip(network.encoders["one"].named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), key


SENSORS = BundleSpec(("acc", "air", "turn"), (SPECS["series"], SLOW, SeriesSpec(2, 24, 50.0, (0.0,) * 2, (1.0,) * 2)))
SPOILT = ("absent in some", "absent in all", "a burst", "a channel less")


def bundled(name: str, fusion: str, training: bool) -> Any:
    """The registered encoder of bundles, with one encoder for all modalities."""
    each = ":".join([name, *(f"{key}={value}" for key, value in SETTINGS.get(name, {}).items())])
    with keyed_initialisation(0, "fusion"):
        return ENCODERS.build("fused", SENSORS, settings={"each": each, "fusion": fusion}).train(training)


def spoil(rows: Tensor, modality: str, how: str) -> Tensor:
    """Seven rows of which something of one modality is not measured: in rows 2, 3 and 5, or in all."""
    parts = {name: values.clone() for name, values in SENSORS.split(rows).items()}
    x, some = parts[modality], torch.tensor([2, 3, 5])
    if how == "absent in all":
        x[:] = NAN
    elif how == "absent in some":
        x[some] = NAN
    elif how == "a burst":
        x[some, :, 1:5] = NAN
    else:
        x[some, 0] = NAN  # of one channel it is the modality
    return SENSORS.join(parts)


def outcome(network: Any, rows: Tensor, others: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Features of some modalities, what training on these alone leaves in their encoders, and the joined feature."""
    with torch.set_grad_enabled(network.training):
        features, left = network.features(rows), {}
    z = {name: features[name] for name in others}
    if network.training:
        torch.cat([found * torch.linspace(-1, 2, found.numel()).view_as(found) for found in z.values()], 1).sum().backward()
        left = {f"{name}.{key}": p.grad for name in others for key, p in network.modalities[name].named_parameters()}
        left |= {f"{name}.{key}": buffer for name in others for key, buffer in network.modalities[name].named_buffers()}
    with torch.no_grad():
        return z, left, network.fused.join(features, SENSORS.present(rows)) if network.training else network(rows)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize("name", [name for name in SERIES if name != "auto"])  # which is one of them
def test_a_modality_of_a_bundle_that_is_not_measured_changes_no_other(name: str, fusion: str, training: bool) -> None:
    rows, network = SENSORS.noise(7, torch.Generator().manual_seed(0)), bundled(name, fusion, training)
    for modality in SENSORS.names:
        others = [other for other in SENSORS.names if other != modality]
        z, left, joined = outcome(copy.deepcopy(network), rows, others)
        found = {how: outcome(copy.deepcopy(network), spoil(rows, modality, how), others) for how in SPOILT}
        for how, (z_spoilt, left_spoilt, joined_spoilt) in found.items():
            assert all(torch.equal(z_spoilt[other], z[other]) for other in others), how
            assert all(torch.equal(left_spoilt[key], value) for key, value in left.items()), how
            assert joined_spoilt.isfinite().all(), how
            torch.testing.assert_close(joined_spoilt.norm(dim=1), torch.ones(7))
            if not training and how != "absent in all":
                torch.testing.assert_close(joined_spoilt[[0, 1, 4, 6]], joined[[0, 1, 4, 6]], rtol=1e-4, atol=1e-5)
        # without it a sample is what the others say of it
        absent, nowhere = found["absent in some"][2], found["absent in all"][2]
        torch.testing.assert_close(absent[[2, 3, 5]], nowhere[[2, 3, 5]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mean", "attention"])
def test_fusions_against_loops(name: str) -> None:
    dims = {"a": 4, "b": 4, "c": 4} if name == "mean" else {"a": 4, "b": 6, "c": 3}
    with keyed_initialisation(0, "fusion"):
        fusion: Any = FUSIONS[name](dims)
    parts = {
        field: torch.nn.functional.normalize(torch.randn(7, dim, generator=torch.Generator().manual_seed(dim)))
        for field, dim in dims.items()
    }
    there = {field: rows.unsqueeze(1) for field, rows in zip(dims, PRESENT.values(), strict=True)}
    parts = {field: part * there[field] for field, part in parts.items()}
    found = fusion(parts, there).detach().double().numpy()
    for row, held in enumerate(SUBSETS):
        fields = [field for field, is_there in zip(dims, held, strict=True) if is_there]
        u = {field: parts[field][row].double().numpy() for field in fields}
        if name == "mean":
            joined = np.mean([u[field] for field in fields], axis=0)
        else:
            v = {
                f: fusion.project[f].weight.detach().double().numpy() @ u[f] + fusion.project[f].bias.detach().double().numpy()
                for f in fields
            }
            w = {f: np.exp(fusion.score.weight[0].detach().double().numpy() @ np.tanh(v[f])) for f in fields}
            joined = sum(w[f] * v[f] for f in fields) / sum(w.values())
        np.testing.assert_allclose(found[row], joined / np.sqrt((joined**2).sum()), atol=1e-5)
    assert fusion.dim == found.shape[1] == max(dims.values())


def test_a_field_that_nobody_has_is_not_weighed() -> None:
    attention = Attention({"a": 4, "b": 6})
    there = {"a": torch.ones(3, 1, dtype=torch.bool), "b": torch.zeros(3, 1, dtype=torch.bool)}
    attention({"a": torch.eye(4)[:3], "b": torch.zeros(3, 6)}, there).sum().backward()
    assert all(p.grad is None for p in attention.project["b"].parameters())
    assert all(p.grad.isfinite().all() for p in attention.project["a"].parameters())


def test_concat_has_the_state_that_it_had() -> None:
    assert {key.split(".")[0] for key in fused("mlp", "features", "concat").state_dict()} == {"encoders"}


def test_a_fusion_that_does_not_fit_is_told() -> None:
    with pytest.raises(ConfigError, match="features of one width, got a 4, b 6"):
        Mean({"a": 4, "b": 6})
    with pytest.raises(ConfigError, match="fused: fusion: got 'avg'"):
        Fused({"rows": build_encoder("mlp", {}, SPECS["features"])}, fusion="avg")  # type: ignore[arg-type]
