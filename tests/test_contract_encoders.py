"""Every registered encoder with stages: one pass gives maps and features, and its features are what its pooling makes of the last maps."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import build_encoder
from kinshot.encoders.maps import Maps, place_mean
from kinshot.encoders.timm_adapter import TimmEncoder
from kinshot.learn.depth import share_by_depth
from kinshot.learn.optim import SCALE, decay_groups
from kinshot.samples.characters import PADDING
from kinshot.samples.frames import FramesSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec, accepted_kinds
from kinshot.samples.tokens import TokenSpec
from tests.graph_trees import graph_spec

SPECS: dict[str, Spec] = {
    "image": PixelSpec.square(3, 32, (0.5,) * 3, (0.25,) * 3),
    "features": RowSpec(7, (0.0,) * 7, (1.0,) * 7),
    "tokens": TokenSpec(12, "abcdef"),
    "series": SeriesSpec(3, 48, 50.0, (0.0,) * 3, (1.0,) * 3),
    "frames": FramesSpec.unmeasured((3, 6, 32, 32), 2.0),
    "node": graph_spec(averaged=("a",)),
}
LARGE = PixelSpec.square(3, 96, (0.5,) * 3, (0.25,) * 3)
# a layout each: maps, a last stage behind those of the feature info, channels last, tokens behind class and register tokens
TIMM = ["resnet10t", "tf_efficientnet_lite0", "mambaout_femto", "deit_tiny_distilled_patch16_224"]
TORCHVISION = ["resnet18", "mobilenet_v3_small"]
WIDE = PixelSpec(3, 32, 64, (0.5,) * 3, (0.25,) * 3)
SETTINGS: dict[str, dict[str, Any]] = {
    "resnet12": {"width": 0.25},
    "resnet18": {"width": 0.125},
    "resnet50": {"width": 0.125, "depth": 0.34},
    "efficientnet_lite0": {"pretrained": False},
}
NEEDS_TIMM = [pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the optional package timm")]
CASES = [
    *(
        pytest.param(name, SETTINGS.get(name, {}), SPECS[kind], id=f"{name} {kind}")
        for name in ENCODERS.names()
        if name not in ("timm", "torchvision", "onnx")  # an ONNX file has no stages
        for kind in accepted_kinds(ENCODERS.get(name))
        if kind != "bundle"  # whose modalities have stages of their own
    ),
    pytest.param(
        "pooled", {"of": "resnet12:width=0.125", "levels": ["layer2", "layer4"], "attention": True, "width": 6}, SPECS["image"], id="levels"
    ),
    *(pytest.param("torchvision", {"model": model}, LARGE, id=f"torchvision {model}") for model in TORCHVISION),
    *(pytest.param("timm", {"model": model}, LARGE, id=model, marks=NEEDS_TIMM) for model in TIMM),
    *(pytest.param(name, SETTINGS.get(name, {}), WIDE, id=f"{name} wide") for name in ("conv4", "resnet12", "resnet18")),
    pytest.param("timm", {"model": "vit_tiny_patch16_224"}, WIDE, id="vit wide", marks=NEEDS_TIMM),
]
each = pytest.mark.parametrize(("name", "settings", "spec"), CASES)


def samples(spec: Spec, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if isinstance(spec, TokenSpec):
        ids = torch.randint(1, spec.vocabulary, (batch, spec.length), generator=generator)
        return ids.masked_fill(torch.arange(spec.length) > torch.tensor([[3], [20], [6], [0]])[:batch], PADDING)
    x = spec.noise(batch, generator)
    if isinstance(spec, FramesSpec):  # a short one, a gap, and one without a frame
        x[1, :, 4:], x[2, :, 1], x[3] = (float("nan"),) * 3
    if isinstance(spec, SeriesSpec):  # a short one, a channel that is missing and a burst, and one without a measured step
        x[1, :, 20:], x[2, 1], x[2, :, 3:9], x[3] = (float("nan"),) * 4
    return x


def build(name: str, settings: dict[str, Any], spec: Spec) -> Any:
    return build_encoder(name, settings, spec)


def watched(encoder: Any, x: Tensor) -> dict[str, Tensor]:
    """What each stage's module gives in a plain forward pass."""
    found: dict[str, Tensor] = {}
    modules = {name: encoder.get_submodule(name) for name in encoder.stages}
    handles = [
        m.register_forward_hook(lambda _, __, y, name=name: found.__setitem__(name, y.detach().clone())) for name, m in modules.items()
    ]
    encoder(x)
    for handle in handles:
        handle.remove()
    return found


@each
@pytest.mark.parametrize("training", [True, False])
def test_forward_is_the_pooled_last_map_bit_for_bit(name: str, settings: dict[str, Any], spec: Spec, training: bool) -> None:
    one = build(name, settings, spec).train(training)
    other, x = copy.deepcopy(one), samples(spec)
    with torch.random.fork_rng():  # timm's dropped paths come from torch's own state
        torch.manual_seed(0)
        plain = one(x)
        torch.manual_seed(0)
        # all stages beside the last one, in an order of their own, change nothing
        maps = other.maps(x, [*reversed(other.stages), other.stages[-1]])
        pooled = other.pool(maps[-1])
    assert torch.equal(plain, pooled)
    assert plain.shape == (4, one.dim)
    weights = torch.linspace(-1, 1, plain.numel()).view_as(plain)
    (plain * weights).sum().backward()
    (pooled * weights).sum().backward()
    for (key, ours), (_, theirs) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), key
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad), key
    for (key, ours), (_, theirs) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), key
        assert not key.endswith("num_batches_tracked") or int(theirs) == training, key


@each
def test_stages_are_modules_with_the_stated_channels_and_strides(name: str, settings: dict[str, Any], spec: Spec) -> None:
    encoder, x = build(name, settings, spec).eval(), samples(spec)
    assert encoder.stages == tuple(encoder.dims) == tuple(encoder.strides)
    assert encoder.stages
    with torch.no_grad():
        given = watched(encoder, x)
        maps = dict(zip(encoder.stages, encoder.maps(x, encoder.stages), strict=True))
    for stage, found in maps.items():
        assert found.values.shape[:2] == (len(x), encoder.dims[stage])
        assert found.stride == encoder.strides[stage]
        if isinstance(spec, PixelSpec):
            sides = zip((spec.height, spec.width), found.values.shape[2:], strict=True)
            assert all(places in (side // found.stride, -(-side // found.stride)) for side, places in sides), stage
        shown = given[stage] if given[stage].shape == found.values.shape else given[stage].mT
        if shown.shape == found.values.shape:
            kept = torch.ones(()) if found.valid is None else found.valid.unsqueeze(1)
            assert torch.equal(found.values, shown * kept), stage
        else:  # a timm model's tokens, with those that stand for no place before them
            places = found.values.flatten(2).mT
            assert torch.equal(given[stage].flatten(1, -2)[:, -places.shape[1] :], places), stage


@each
def test_a_gradient_flows_from_every_stage(name: str, settings: dict[str, Any], spec: Spec) -> None:
    encoder, x = build(name, settings, spec), samples(spec)
    for stage in encoder.stages:
        encoder.zero_grad()
        values = encoder.maps(x, (stage,))[0].values
        (values * torch.randn(values.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters()), stage


@each
def test_maps_stop_at_the_last_stage_that_is_wanted(name: str, settings: dict[str, Any], spec: Spec) -> None:
    """But for timm's, whose own pass goes to the end."""
    encoder, x = build(name, settings, spec).train(), samples(spec)
    first = encoder.stages[0]
    with torch.no_grad():
        encoder.maps(x, (first,))
    counts = [int(value) for key, value in encoder.named_buffers() if key.endswith("num_batches_tracked")]
    assert set(counts) <= {0, 1}
    assert not counts or isinstance(encoder, TimmEncoder) or len(encoder.stages) == 1 or sum(counts) < len(counts)


def test_places_of_texts_that_are_padding_are_told_and_zero() -> None:
    spec = SPECS["tokens"]
    encoder, x = build("text", {}, spec), samples(spec)
    for maps in encoder.maps(x, encoder.stages):
        assert torch.equal(maps.valid, x != PADDING)
        assert maps.values.movedim(1, -1)[x == PADDING].abs().max() == 0
        assert maps.values.movedim(1, -1)[x != PADDING].abs().min() > 0


def test_place_mean_against_a_loop() -> None:
    values = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    valid = torch.rand(3, 4, 5) < 0.5
    valid[1] = False
    expected = torch.stack(
        [values[b, :, valid[b]].sum(1) / max(1, int(valid[b].sum())) for b in range(3)],
    )
    torch.testing.assert_close(place_mean(Maps(values, 1, valid)), expected)
    torch.testing.assert_close(place_mean(Maps(values, 1)), values.mean((2, 3)))


def test_class_and_register_tokens_stand_beside_the_places() -> None:
    pytest.importorskip("timm")
    encoder = build("timm", {"model": "deit_tiny_distilled_patch16_224"}, LARGE).eval()
    x = samples(LARGE, 2)
    maps = encoder.maps(x, encoder.stages[-1:])[0]
    tokens = encoder.model.forward_features(x)
    assert maps.values.shape == (2, 192, 6, 6)
    assert torch.equal(maps.beside, tokens[:, :2].mT)
    assert torch.equal(maps.values[:, :, 1, 2], tokens[:, 2 + 6 + 2])


@each
def test_shares_of_the_learning_rate_fall_with_depth(name: str, settings: dict[str, Any], spec: Spec) -> None:
    encoder = build_encoder(name, settings, spec)
    if not getattr(encoder, "stages", ()):
        with pytest.raises(ConfigError, match=r"train\.layer_decay: the encoder \w+ does not say its stages"):
            share_by_depth(encoder, decay=0.5)
        return
    share_by_depth(encoder, decay=0.5)
    shares = {id(weight): group.get(SCALE, 1.0) for group in decay_groups(encoder, 0.0) for weight in group["params"]}
    assert len(shares) == sum(weight.requires_grad for weight in encoder.parameters())
    count, met = len(encoder.stages), set[int]()
    for number, stage in enumerate(encoder.stages):
        for weight in encoder.get_submodule(stage).parameters():
            assert id(weight) in met or shares[id(weight)] == 0.5 ** (count - number), stage
            met.add(id(weight))
    assert set(shares.values()) <= {0.5**steps for steps in range(count + 2)}
