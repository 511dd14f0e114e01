"""Maps pooled as metric learning does: GAP, GMP, both, GeM; second-order attention; several levels. Against loops in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kinshot.core.errors import ConfigError
from kinshot.encoders.build import build_encoder
from kinshot.encoders.generalized_mean import generalized_mean
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import place_max
from kinshot.encoders.second_order import SecondOrder, second_order
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec

SPEC = PixelSpec.square(3, 32, (0.5,) * 3, (0.25,) * 3)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def build(**settings: Any) -> Any:
    return build_encoder("pooled", {"of": "resnet12:width=0.125", **settings}, SPEC)


@pytest.mark.parametrize("power", [1.0, 3.0, 7.5])
@pytest.mark.parametrize("masked", [False, True])
def test_the_generalized_mean_against_a_loop(power: float, masked: bool) -> None:
    values, valid = drawn(3, 2, 4, 5), torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    valid[1] = False
    expected = np.zeros((3, 2))
    for b in range(3):
        for c in range(2):
            kept = values[b, c][valid[b]] if masked else values[b, c].flatten()
            x = np.maximum(kept.numpy(), 0.01)
            expected[b, c] = (sum(v**power for v in x) / len(x)) ** (1 / power) if len(x) else 0.0
    found = generalized_mean(Maps(values, 1, valid if masked else None), power, 0.01)
    assert_close(found, torch.from_numpy(expected))


@pytest.mark.parametrize("masked", [False, True])
def test_the_generalized_mean_has_the_gradient_of_its_formula(masked: bool) -> None:
    """In the maps and in the power, though each channel is divided by its largest value meanwhile."""
    values, power = drawn(2, 3, 6).abs().requires_grad_(), torch.tensor([2.5], dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]]).bool() if masked else None
    ours = torch.autograd.grad((generalized_mean(Maps(values, 1, valid), power) * drawn(2, 3)).sum(), (values, power))
    if valid is None:
        plain = values.pow(power).mean(2) ** (1 / power)
    else:
        plain = torch.cat([values[:1, :, valid[0]].pow(power).mean(2) ** (1 / power), values[1:].sum(2) * 0.0])
    theirs = torch.autograd.grad((plain * drawn(2, 3)).sum(), (values, power))
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other)


def test_the_generalized_mean_goes_from_the_mean_to_the_largest_value_and_does_not_overflow() -> None:
    values = drawn(4, 3, 9).abs() + 0.1
    assert_close(generalized_mean(Maps(values, 1), 1.0), values.mean(2))
    assert_close(generalized_mean(Maps(values, 1), 1e5), values.amax(2), rtol=1e-3, atol=0)
    assert_close(generalized_mean(Maps(values.float() * 1e30, 1), 3.0), generalized_mean(Maps(values, 1), 3.0).float() * 1e30)
    half = generalized_mean(Maps(values.bfloat16(), 1), 3.0)
    assert half.dtype == torch.float32


def test_the_largest_value_of_grids_against_a_loop() -> None:
    values, valid = drawn(3, 2, 4, 5) - 2, torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    valid[1] = False
    rows = [values[b, :, valid[b]].amax(1) if valid[b].any() else torch.zeros(2, dtype=torch.float64) for b in range(3)]
    assert_close(place_max(Maps(values, 1, valid)), torch.stack(rows))
    assert_close(place_max(Maps(values, 1)), values.amax((2, 3)))


@pytest.mark.parametrize("masked", [False, True])
def test_second_order_attention_against_a_loop(masked: bool) -> None:
    values, valid = drawn(2, 4, 3, 2), torch.tensor([[[1, 1], [0, 1], [1, 0]], [[1, 1], [1, 1], [0, 0]]]).bool()
    layer = SecondOrder(4).double()
    assert_close(layer(values), values)  # as it begins
    generator = torch.Generator().manual_seed(2)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    q, k, v, g = ((part.weight.detach().numpy(), part.bias.detach().numpy()) for part in (layer.q, layer.k, layer.v, layer.g))
    expected = np.zeros((2, 4, 6))
    for b in range(2):
        places, seen = values[b].flatten(1).T.numpy(), valid[b].flatten().numpy()
        for i in range(6):
            others = [j for j in range(6) if seen[j] or not masked]
            scores = np.array([(q[0] @ places[i] + q[1]) @ (k[0] @ places[j] + k[1]) for j in others])
            weights = np.exp(scores - scores.max())
            said = sum(w * (v[0] @ places[j] + v[1]) for w, j in zip(weights / weights.sum(), others, strict=True))
            if seen[i] or not masked:
                expected[b, :, i] = places[i] + g[0] @ said + g[1]
    assert_close(layer(values, valid if masked else None).flatten(2), torch.from_numpy(expected))


def test_attention_to_nothing_stays_a_number() -> None:
    rows = drawn(1, 3, 2)
    assert second_order(rows, rows, rows, torch.zeros(1, 3, dtype=torch.bool)).isfinite().all()
    assert SecondOrder(2).double()(rows.mT, torch.zeros(1, 3, dtype=torch.bool)).abs().sum() == 0


@pytest.mark.parametrize("pool", ["mean", "max", "mean_max", "gem"])
def test_features_are_the_levels_pooled_apart_side_by_side(pool: str) -> None:
    encoder, x = build(pool=pool, levels=["layer2", "layer4"], width=5).eval(), torch.randn(2, 3, 32, 32)
    maps = encoder.trunk.maps(x, ("layer2", "layer4"))
    rows = []
    for level, found in zip(encoder.levels, maps, strict=True):
        mean, largest = found.values.mean((2, 3)), found.values.amax((2, 3))
        powers = found.values.clamp_min(1e-6).pow(3).mean((2, 3)) ** (1 / 3)
        rows.append(level.linear({"mean": mean, "max": largest, "mean_max": mean + largest, "gem": powers}[pool]))
    assert encoder.dim == 10
    assert_close(encoder(x), torch.cat(rows, 1))


def test_the_power_is_learned_by_each_level_and_weights_of_the_trunk_keep_their_names() -> None:
    encoder = build(levels=["layer3", "layer4"])
    encoder(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert [float(level.power.detach()) for level in encoder.levels] == [3.0, 3.0]
    assert all(level.power.grad.abs() > 0 for level in encoder.levels)
    encoder.trunk.load_state_dict(build_encoder("resnet12", {"width": 0.125}, SPEC, seed=5).state_dict())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"levels": ["layer5"]}, "has no stage 'layer5'"),
        ({"levels": ["layer4", "layer4"]}, "names a stage twice"),
        ({"width": -1}, "width must be at least 0"),
        ({"power": 0.0}, "power"),
        ({"eps": 0.0}, "eps"),
        ({"of": "resnet12:breadth=2"}, "breadth"),
    ],
)
def test_what_cannot_be_pooled_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**settings)
    with pytest.raises(ConfigError, match="takes image"):
        build_encoder("pooled", {}, RowSpec(2, (0.0,) * 2, (1.0,) * 2))
