"""What every kind of samples keeps to, generated from the registry; and the data of older files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import ArraySource
from kinshot.datasets.bundle import Bundle
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.fields import FieldsSource
from kinshot.datasets.series import SeriesSource
from kinshot.datasets.text import TextSource
from kinshot.datasets.videos import FramesSource
from kinshot.datasets.views import VIEWS
from kinshot.encoders import ENCODERS
from kinshot.encoders.build import build_encoder
from kinshot.samples import SPECS
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import accepted_kinds, input_of, spec_from_dict
from kinshot.samples.tokens import TokenSpec
from kinshot.studies.summaries import RAW
from tests.graph_trees import graph_source

_rng = np.random.default_rng(0)
_frames = _rng.random((7, 3, 5, 16, 12), dtype=np.float32)
_frames[4] = np.nan  # no frame
SOURCES = {
    "image": ArraySource(_rng.integers(0, 256, (7, 3, 16, 12), dtype=np.uint8)),
    "features": FeatureSource(_rng.normal(3, 2, (7, 5))),
    "tokens": TextSource(["some", "longer text", "a", "b", "c", "d", "e"]),
    "series": SeriesSource(_rng.normal(3, 2, (7, 3, 40)), 50),
    "frames": FramesSource(_frames, 5),
    "bundle": Bundle(
        FieldsSource(
            {"acc": SeriesSource(_rng.normal(3, 2, (7, 3, 40)), 50), "air": SeriesSource(_rng.normal(9, 4, (7, 1, 8)), 10)},
            present={"air": np.arange(7) != 2},
        )
    ),
    "node": graph_source(),
}
ENCODERS_OF = {
    "image": ["auto", "conv4"],
    "features": ["auto", "mlp"],
    "tokens": ["auto", "text"],
    "series": ["auto", "series_cnn"],
    "frames": ["auto", "frame_encoder"],
    "bundle": ["auto", "fused"],
    "node": ["meta_path"],
}
"""Of those that are tried here."""
KINDS = SPECS.names()
GENERATOR = torch.Generator().manual_seed(0)


def same(one, other):
    """Whether tensors are equal, absent values too."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


@pytest.fixture(params=KINDS)
def source(request):
    return SOURCES[request.param]


def test_the_name_is_the_kind(source):
    assert (input_of(source).kind, type(input_of(source))) == (source.kind, SPECS.get(source.kind))


def test_plain_data_reads_back(source):
    spec = input_of(source)
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(spec_from_dict(json.loads(json.dumps(spec.to_dict())))) == hash(spec)


def test_damaged_plain_data_is_refused(source):
    given = input_of(source).to_dict()
    for key in given.keys() - {"kind"}:
        for wrong in (None, -1, "3", True, float("nan"), [float("inf")], {}):
            if key == "alphabet" or (key == "relative" and wrong is True):  # any text is one, and what is none becomes one
                continue
            with pytest.raises((KeyError, TypeError, ValueError)):
                spec_from_dict({**given, key: wrong})
        if key != "interpolation":  # which older files lack
            with pytest.raises(KeyError):
                spec_from_dict({name: value for name, value in given.items() if name != key})


def test_shape_is_that_of_a_sample(source):
    spec = source.spec
    assert spec.shape == source.shape == tuple(source.load([0]).shape[1:])
    assert spec.same_form(input_of(source))
    assert spec.meets == input_of(source).meets
    spec.check_source(source)


def test_normalised_samples_have_no_mean_and_unit_spread(source):
    spec, batch = input_of(source), source.load(range(7))
    x = spec.normalize(batch)
    if spec.vocabulary:
        assert x.dtype == torch.int64
        assert 0 <= int(x.min()) <= int(x.max()) < spec.vocabulary
    else:
        for part in spec.split(x).values() if spec.kind == "bundle" else [x]:
            channels = part[~part.flatten(1).isnan().all(1)].double().transpose(0, 1).flatten(1)
            torch.testing.assert_close(channels.mean(1), torch.zeros(len(channels)).double(), atol=1e-5, rtol=0)
            torch.testing.assert_close(channels.std(1, correction=0), torch.ones(len(channels)).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(spec.denormalize(x), spec.values(batch), check_dtype=False, equal_nan=True)
    torch.testing.assert_close(source.spec.normalize(batch), spec.values(batch), equal_nan=True)


def test_normalisation_leaves_its_batch_alone(source):
    batch = source.load(range(7))
    before = batch.clone()
    input_of(source).prepare(batch)
    assert same(batch, before)


def test_prepared_samples_are_normalised(source):
    spec, batch = input_of(source), source.load(range(7))
    assert same(spec.prepare(batch), spec.normalize(batch))
    if not spec.vocabulary:
        torch.testing.assert_close(spec.prepare(spec.values(batch)), spec.normalize(batch), equal_nan=True)


def test_what_is_no_sample_of_the_kind_is_refused(source):
    spec = input_of(source)
    # numbers of nodes are numbers of characters, too: what keeps these apart is `check_source`
    others = [other.load([0, 1]) for kind, other in SOURCES.items() if kind != source.kind and (source.kind, kind) != ("tokens", "node")]
    for wrong in (*others, torch.zeros(()), "one text", [1, 2], source.load([0])[0]):
        with pytest.raises(DataError, match="this encoder"):
            spec.prepare(wrong)
    for kind, other in SOURCES.items():
        if kind != source.kind:
            with pytest.raises(DataError, match=f"holds {kind}, but the encoder was made for {source.kind}"):
                spec.check_source(other)


def test_a_fitted_batch_has_the_form(source):
    spec, batch = source.spec, source.load([0, 1, 2])
    assert same(spec.fit(batch), batch)
    other = batch[:, :, :-3, :-2] if batch.ndim == 4 else batch[..., :-1]
    if spec.resizable or (spec.vocabulary and spec.kind != "node") or isinstance(spec, SeriesSpec):
        found = spec.fit(other)
        assert (found.shape, found.dtype) == (batch.shape, batch.dtype)


def test_a_normalised_batch_is_fitted_by_its_values(source):
    spec, values = input_of(source), input_of(source).values(source.load(range(3)))
    assert same(spec.fit_normalized(spec.normalize(values)), spec.normalize(values))
    if isinstance(spec, PixelSpec):
        small = replace(spec, height=5, width=6, interpolation="bicubic")
        torch.testing.assert_close(small.fit_normalized(spec.normalize(values)), small.normalize(small.fit(values)), atol=1e-5, rtol=0)


def test_bytes_are_fitted_as_values_are_to_rounding():
    batch = SOURCES["image"].load(range(4))
    cubic = PixelSpec.square(3, 24, (0,) * 3, (1,) * 3, "bicubic")
    for wanted in (cubic, PixelSpec.unmeasured((1, 9, 20)), PixelSpec.unmeasured((4, 16, 12)), PixelSpec.unmeasured((3, 8, 8))):
        found, values = wanted.fit(batch), wanted.fit(wanted.values(batch))
        assert found.dtype == torch.uint8
        assert found.shape == values.shape == (4, *wanted.shape)
        assert (found / 255 - values).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("n", [1, 2, 9, 300])
def test_blank_samples_differ(source, n):
    spec = input_of(source)
    blank = spec.blank(n)
    assert blank.shape == (n, *spec.shape)
    assert len(blank.unique(dim=0)) == (min(n, len(source)) if spec.kind == "node" else n)  # a graph has no more nodes than it has
    assert blank.dtype == spec.normalize(source.load([0])).dtype
    if spec.vocabulary:
        assert (spec.kind != "node") <= int(blank.min()) <= int(blank.max()) < spec.vocabulary


def test_blank_texts_stay_in_an_alphabet_of_one_letter():
    assert TokenSpec(3, "a").blank(4).tolist() == [[3, 3, 3], [2, 2, 2], [1, 1, 1], [3, 2, 1]]


def test_noise_is_drawn_from_the_generator(source):
    spec = input_of(source)
    first, again, other = (spec.noise(3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (3, *spec.shape)
    assert same(first, again)
    assert not same(first, other)


def test_encoders_of_the_kind_take_blank_samples_and_noise(source):
    if source.kind == "image":
        source = ArraySource(np.zeros((1, 3, 32, 32), np.uint8))
    spec = input_of(source)
    tried = ("auto", "conv4", "frame_encoder", "fused", "meta_path", "mlp", "series_cnn", "text")
    names = [name for name in tried if spec.kind in accepted_kinds(ENCODERS.get(name))]
    assert names == ENCODERS_OF[spec.kind]
    for name in names:
        encoder = build_encoder(name, {}, spec).eval()
        for x in (spec.blank(2), spec.noise(2, GENERATOR)):
            assert encoder(x).shape == (2, encoder.dim)


def test_raw_features_have_one_width(source):
    spec = source.spec
    whole = spec.raw(source.load(range(7)))
    assert whole.dtype == torch.float32
    torch.testing.assert_close(torch.cat([spec.raw(source.load([row])) for row in range(7)]), whole)
    assert len(whole.unique(dim=0)) == 7


def test_samples_are_described(source):
    spec = input_of(source)
    said = {"image": "images of 3 x 16 x 12", "features": "5 features", "tokens": "texts of 11 characters of 69"}
    said["series"] = "series of 3 channels and 40 steps at 50 Hz"
    said["frames"] = "windows of 5 frames of 3 x 16 x 12 at 5 Hz"
    said["node"] = "24 nodes p of a graph with the meta-paths pap, psp, pavap"
    said["bundle"] = "bundles of acc (series of 3 channels and 40 steps at 50 Hz) and air (series of 1 channels and 8 steps at 10 Hz)"
    assert spec.describe() == said[spec.kind]


def test_there_is_something_to_look_at(source):
    spec, batch = source.spec, source.load([0, 1])
    pictures, texts = spec.pictures(batch), spec.texts(batch)
    assert pictures is None or same(pictures, batch)
    assert texts is None or texts == ["some", "longer text"]
    assert (pictures is None) + (texts is None) == (2 if spec.kind in ("bundle", "features", "frames", "node", "series") else 1)


def test_images_of_older_files_are_square_and_those_of_today_need_not_be():
    old = {"channels": 1, "size": 28, "mean": [0.1], "std": [0.3]}
    square = PixelSpec(1, 28, 28, (0.1,), (0.3,))
    assert spec_from_dict(old) == spec_from_dict({"kind": "image", **old}) == square == PixelSpec.square(1, 28, (0.1,), (0.3,))
    assert json.loads(json.dumps(square.to_dict())) == {"kind": "image", **old, "interpolation": "bilinear"}
    wide = PixelSpec(1, 20, 28, (0.1,), (0.3,))
    assert wide.to_dict()["size"] == [20, 28]
    assert wide.rendering == {"channels": 1}
    assert square.rendering == {"channels": 1, "size": 28}
    for size in ([20], [20, 28, 1], [0, 28], 28.0, None):
        with pytest.raises((TypeError, ValueError)):
            spec_from_dict({**old, "size": size})


def test_texts_and_rows_of_older_files_read_back():
    assert spec_from_dict({"kind": "tokens", "length": 5, "alphabet": "ab"}) == TokenSpec(5, "ab")
    assert spec_from_dict({"kind": "features", "dim": 2, "mean": [0, 1], "std": [1, 2]}) == RowSpec(2, (0.0, 1.0), (1.0, 2.0))
    with pytest.raises(ValueError, match="unknown kind 'sound', known are bundle, features, frames, image, node, series, tokens"):
        spec_from_dict({"kind": "sound"})


def test_a_part_for_square_images_says_so():
    with pytest.raises(ConfigError, match="expected square images, got 20 x 28 pixels"):
        _ = PixelSpec(1, 20, 28, (0.1,), (0.3,)).size


def test_images_that_are_not_square_pass_views_and_encoders():
    source = ArraySource(_rng.integers(0, 256, (3, 1, 20, 28), dtype=np.uint8))
    spec = input_of(source)
    encoder = build_encoder("conv4", {"width": 4}, spec).eval()
    assert encoder(spec.prepare(source.load(range(3)))).shape == (3, encoder.dim)
    for name in ("clean", "warp"):
        views = VIEWS.build(name, spec)(source.load(range(3)), torch.arange(3), seed=0, epoch=0)
        assert [view.shape for view in views] == [(3, 1, 20, 28)] * len(views)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_know_what_the_samples_themselves_are_called(kind: str) -> None:
    spec = input_of(SOURCES[kind])
    assert RAW[spec.raw_label] == spec.raw_feature
    assert (spec.raw_label == "raw pixels") == (kind == "image")
