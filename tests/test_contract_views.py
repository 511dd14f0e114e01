"""Every registered view is a plan and its application; `warp`'s plan says which places of views and originals belong together."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views._geometry import Geometry, bumps_at
from kinshot.datasets.views.each_field import EachField
from kinshot.datasets.views.feature_noise import FeatureNoise
from kinshot.datasets.views.plan import Plan, Views
from kinshot.datasets.views.token_mask import TokenMask
from kinshot.datasets.views.warp import Warp
from kinshot.datasets.views.warp_plan import WarpPlan
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.class_map import ClassMapSpec
from kinshot.samples.frames import FramesSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import Spec, accepted_kinds
from kinshot.samples.tokens import TokenSpec
from tests.graph_trees import graph_spec

WIDE = PixelSpec(3, 18, 30, (0.0,) * 3, (1.0,) * 3)
MAP = ClassMapSpec(18, 30, classes=4)
SERIES = SeriesSpec(3, 32, 50.0, (1.0,) * 3, (2.0,) * 3)
SPECS: dict[str, Spec] = {
    "image": WIDE,
    "features": RowSpec(6, (1.0,) * 6, (2.0,) * 6),
    "tokens": TokenSpec(10, "abcdef"),
    "series": SERIES,
    "frames": FramesSpec(4, 3, 6, 5, 2.0, (0.5,) * 3, (0.2,) * 3),
    "bundle": BundleSpec(("acc", "gyro", "air"), (SERIES, SERIES, SeriesSpec(1, 8, 12.5, (1.0,), (2.0,)))),
    "node": graph_spec(),
}
STRONG = {"rotation": 30.0, "aspect": 0.2, "shear": 0.2, "shift": 0.1, "crop": (0.4, 1.0), "crop_aspect": 0.28, "flip": 0.5}
COLOURFUL = {"brightness": 0.4, "contrast": 0.4, "hue": 0.1, "gray": 0.2, "blur": 0.5, "erase": 0.5, "thicken": 0.5}
TIME = {"flip": 0.5, "permutation": 0.5, "time_warp": 0.5, "crop": 0.6, "rate": (0.8, 1.25)}
LEVEL = {"negation": 0.5, "magnitude_warp": 0.5, "frequency_mask": 0.5, "phase_shift": 0.5, "channel_shuffle": 0.5}
HIDDEN = {"channel_dropout": 0.3, "time_mask": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {
    "warp": {**STRONG, **COLOURFUL, "elastic": 0.05},
    "multi_crop": {"large": "warp:brightness=0.4:contrast=0.4", "small": "warp:crop=[0.1, 0.3]:brightness=0.4:contrast=0.4"},
    "clean": {"views": 2},
    "sensor": {**TIME, **LEVEL, **HIDDEN},
    "hidden_spans": {"views": 2},
}
CASES = [(name, kind) for name in VIEWS.names() for kind in accepted_kinds(VIEWS.get(name))]
each = pytest.mark.parametrize(("name", "kind"), CASES)
INDICES = torch.arange(40, 48)


def build(name: str, fields: Any) -> Views:
    return VIEWS.build(name, fields, settings=SETTINGS.get(name, {}))


def loaded(spec: Spec, seed: int = 0, count: int = 8) -> Tensor:
    """A batch as sources give it."""
    generator = torch.Generator().manual_seed(seed)
    if spec.kind == "image":
        return torch.randint(0, 256, (count, *spec.shape), dtype=torch.uint8, generator=generator)
    samples = spec.noise(count, generator)
    if spec.kind in ("series", "bundle"):  # bursts and padding, and a channel or a modality, were not measured
        gaps = torch.rand(samples.shape, generator=generator) < 0.1
        gaps[1::2, ..., 28:32] = True
        gaps[2:3, : 96 if spec.kind == "bundle" else 1] = True
        return samples.masked_fill(gaps, torch.nan)
    return samples


def same(one: Tensor, other: Tensor) -> bool:
    """Whether both hold the same, what was not measured included."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


def close(one: list[Tensor], other: list[Tensor]) -> None:
    """Equal but for what the size of a batch may change in a matrix product."""
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=5e-6, equal_nan=True)


@each
def test_short_form_is_a_plan_applied(name: str, kind: str) -> None:
    views, samples = build(name, SPECS[kind]), loaded(SPECS[kind])
    short, plan = views(samples, INDICES, seed=3, epoch=5), views.draw(INDICES, 3, 5)
    assert len(short) == views.views
    assert all(same(a, b) for a, b in zip(short, views.apply(plan, kind, samples), strict=True))
    assert plan.indices.tolist() == INDICES.tolist()


@each
def test_a_plan_can_be_pickled_and_applied_again(name: str, kind: str) -> None:
    views, samples = build(name, SPECS[kind]), loaded(SPECS[kind])
    plan: Plan = views.draw(INDICES, 3, 5)
    again = pickle.loads(pickle.dumps(plan))
    expected = views.apply(plan, kind, samples)
    assert all(same(a, b) for a, b in zip(expected, build(name, SPECS[kind]).apply(again, kind, samples), strict=True))


@each
def test_a_view_is_of_seed_view_epoch_index_and_its_own_content_alone(name: str, kind: str) -> None:
    views, samples, some = build(name, SPECS[kind]), loaded(SPECS[kind]), torch.tensor([6, 1, 4])
    whole = views(samples, INDICES, 3, 5)
    close([view[some] for view in whole], views(samples[some], INDICES[some].numpy(), 3, 5))
    others = samples.clone()
    others[0] = loaded(SPECS[kind], 9, 1)[0]
    close([view[1:] for view in whole], [view[1:] for view in views(others, INDICES, 3, 5)])
    random = name != "clean"
    for changed in (views(samples, INDICES, 4, 5), views(samples, INDICES, 3, 6), views(samples, INDICES + 50, 3, 5), whole[::-1]):
        assert any(same(a, b) for a, b in zip(whole, changed, strict=True)) != random


@each
def test_a_further_field_changes_nothing_of_the_first(name: str, kind: str) -> None:
    spec = SPECS[kind]
    alone, both = build(name, spec), build(name, {"one": spec, "two": spec})
    samples = loaded(spec)
    expected = alone(samples, INDICES, 3, 5)
    found = both({"one": samples, "two": samples}, INDICES, seed=3, epoch=5)
    assert len(found) == both.views
    assert all(same(a, b["one"]) for a, b in zip(expected, found, strict=True))
    assert any(same(view["one"], view["two"]) for view in found) == (name == "clean")
    left, *_ = both({"two": samples}, INDICES, seed=3, epoch=5)  # a batch may lack a field
    assert left.keys() == {"two"}


@each
def test_fields_are_known_by_name(name: str, kind: str) -> None:
    views, samples = build(name, {"one": SPECS[kind], "two": SPECS[kind]}), loaded(SPECS[kind])
    plan = views.draw(INDICES, 0, 0)
    with pytest.raises(ConfigError, match="no field 'tow': did you mean 'two'"):
        views.apply(plan, "tow", samples)
    with pytest.raises(ConfigError, match="expected samples of the fields one, two, got one tensor"):
        views(samples, INDICES, 0, 0)
    with pytest.raises(ConfigError, match="none: name the fields"):
        build(name, {})


# ---- an image and its mask


def blobs(spec: ClassMapSpec, classes: int, count: int = 8) -> Tensor:
    """Class maps with areas larger than a pixel."""
    coarse = torch.randint(classes, (count, 1, 5, 6), generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse.float(), spec.shape, mode="nearest")[:, 0].to(torch.uint8)


@pytest.mark.parametrize("elastic", [0.0, 0.1])
def test_an_image_and_its_mask_move_together(elastic: float) -> None:
    warp = Warp({"photo": WIDE, "mask": MAP}, **STRONG, elastic=elastic, padding="zeros")
    mask = blobs(MAP, 2)
    photo = (mask * 255)[:, None].expand(-1, 3, -1, -1).contiguous()
    for view in warp({"photo": photo, "mask": mask}, INDICES, seed=0, epoch=0):
        classes, pixels = view["mask"], view["photo"][:, 0]
        assert (classes.dtype, classes.shape) == (torch.int64, (8, 18, 30))
        assert set(classes.unique().tolist()) == {0, 1, 255}
        # the nearest pixel has at least a quarter of what bilinear reading gives
        assert pixels[classes == 1].min() > 0.25 - 1e-3
        assert pixels[classes == 0].max() < 0.75 + 1e-3
        assert pixels[classes == 255].max() < 0.75 + 1e-3


def test_colour_never_touches_a_mask() -> None:
    mask = blobs(MAP, 4)
    plain, colourful = (Warp({"photo": WIDE, "mask": MAP}, **STRONG, **more) for more in ({}, COLOURFUL))
    one, two = (warp.apply(warp.draw(INDICES, 0, 0), "mask", mask) for warp in (plain, colourful))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("size", [(18, 30), (9, 15)], ids=["as the image", "half the image"])
def test_a_mask_is_read_at_the_nearest_pixel_as_a_loop_does(size: tuple[int, int]) -> None:
    spec = ClassMapSpec(*size, classes=4, ignore=7)
    warp = Warp({"photo": WIDE, "mask": spec}, views=1, **STRONG, elastic=0.05)
    mask, plan = blobs(spec, 4), warp.draw(INDICES, 0, 0)
    found = warp.apply(plan, "mask", mask)[0]
    ratio = 18 / size[0]
    unsure = 0
    for row in range(size[0]):
        for column in range(size[1]):
            # the same place in the image's pixels, and what is read there in the mask's
            place = torch.tensor([(column + 0.5) * ratio - 0.5, (row + 0.5) * ratio - 0.5]).expand(8, 1, 2)
            read = ((plan.to_original(0, place)[:, 0] + 0.5) / ratio).double().numpy()
            for sample, (x, y) in enumerate(read):
                inside = 0 <= x < size[1] and 0 <= y < size[0]
                if min(abs(x - round(x)), abs(y - round(y))) < 1e-3:
                    unsure += 1
                    continue
                expected = int(mask[sample, int(y), int(x)]) if inside else 7
                assert found[sample, row, column] == expected
    assert unsure < 0.02 * found.numel()


def test_the_ignore_value_stands_where_there_is_no_picture() -> None:
    warp = Warp({"photo": WIDE, "mask": MAP}, rotation=0.0, scale=(0.5, 0.5), views=1)
    mask = torch.full((8, 18, 30), 3, dtype=torch.uint8)
    found = warp({"photo": loaded(WIDE), "mask": mask}, INDICES, seed=0, epoch=0)[0]["mask"]
    expected = torch.full((18, 30), 255)
    expected[5:13, 8:22] = 3  # half the sides around the middle: centres from 4.5 to 13.5 and from 7.5 to 22.5
    assert torch.equal(found[0, 5:13, 8:22], expected[5:13, 8:22])
    assert (found[:, :4] == 255).all()
    assert (found[:, :, :7] == 255).all()


def test_views_of_two_cameras_have_one_geometry_and_their_own_colours() -> None:
    other = PixelSpec(1, 9, 15, (0.0,), (1.0,))
    fields = {"colour": WIDE, "thermal": other}
    warp = Warp(fields, **STRONG, elastic=0.05, padding="border")
    # linear pictures of the same scene in two resolutions: where one is read, so is the other
    ramp = torch.arange(30).mul(8).to(torch.uint8).expand(8, 3, 18, 30).contiguous()
    small = torch.arange(15).mul(16).add(4).to(torch.uint8).expand(8, 1, 9, 15).contiguous()
    for view in warp({"colour": ramp, "thermal": small}, INDICES, seed=0, epoch=0):
        halved = F.avg_pool2d(view["colour"][:, :1], 2)
        interior = (halved > 0.1) & (halved < 0.8)
        assert interior.double().mean() > 0.3
        assert (halved - view["thermal"])[interior].abs().max() < 0.02
    bright = Warp(fields, rotation=0.0, scale=(1.0, 1.0), brightness=0.5)
    gray = torch.full((8, 3, 18, 30), 100, dtype=torch.uint8), torch.full((8, 1, 9, 15), 100, dtype=torch.uint8)
    view = bright(dict(zip(fields, gray, strict=True)), INDICES, seed=0, epoch=0)[0]
    assert (view["colour"].mean((1, 2, 3)) - view["thermal"].mean((1, 2, 3))).abs().min() > 1e-3


def test_the_first_field_of_a_warp_is_an_image() -> None:
    for fields in ({"mask": MAP, "photo": WIDE}, {"photo": WIDE, "rows": SPECS["features"]}):
        with pytest.raises(ConfigError, match="warp takes image, and the samples are"):
            Warp(fields)
    with pytest.raises(ConfigError, match="expected a plan that warp drew, got Plan"):
        Warp(WIDE).apply(Plan(np.arange(2), {}), "image", loaded(WIDE, count=2))


# ---- places that belong together


def coordinates(spec: PixelSpec, count: int) -> Tensor:
    """A picture of its own coordinates: 8 times x and y of every pixel."""
    y, x = torch.meshgrid(torch.arange(spec.height), torch.arange(spec.width), indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)]).mul(8).to(torch.uint8).expand(count, -1, -1, -1).contiguous()


def grid_of(size: tuple[int, int], count: int) -> Tensor:
    """(x, y) of every pixel, row by row: (count, H*W, 2)."""
    y, x = torch.meshgrid(torch.arange(size[0]).float(), torch.arange(size[1]).float(), indexing="ij")
    return torch.stack([x, y], 2).view(1, -1, 2).expand(count, -1, -1)


def read(picture: Tensor, places: Tensor) -> Tensor:
    """Pictures (B, C, H, W) read bilinearly at places (B, N, 2) in pixels: (B, N, C)."""
    sides = torch.tensor([picture.shape[3], picture.shape[2]])
    found = F.grid_sample(picture, ((places + 0.5) * 2 / sides - 1)[:, None], align_corners=False, padding_mode="border")
    return found[:, :, 0].mT


@pytest.mark.parametrize("elastic", [0.0, 0.05])
def test_places_in_the_original_are_those_that_a_warped_picture_of_coordinates_shows(elastic: float) -> None:
    warp = Warp(WIDE, **STRONG, elastic=elastic, padding="border")
    plan = warp.draw(INDICES, 2, 1)
    assert isinstance(plan, WarpPlan)
    shown = warp.apply(plan, "image", coordinates(WIDE, 8))
    for view in range(2):
        places = plan.to_original(view, grid_of((18, 30), 8))
        seen = shown[view][:, :2].flatten(2).mT * 255 / 8
        inside = ((places >= 0) & (places <= torch.tensor([29.0, 17.0]))).all(2)
        assert inside.double().mean() > 0.5
        torch.testing.assert_close(places[inside], seen[inside], rtol=0, atol=2e-3)


@pytest.mark.parametrize("elastic", [0.0, 0.05])
def test_places_of_two_views_that_belong_together_show_the_same(elastic: float) -> None:
    warp = Warp(WIDE, **STRONG, elastic=elastic, padding="border")
    plan = warp.draw(INDICES, 2, 1)
    first, second = warp.apply(plan, "image", coordinates(WIDE, 8))
    start = grid_of((18, 30), 8)
    places, together = plan.between(0, 1, start)
    assert 0.2 < together.double().mean() < 0.95
    # away from the edges of the second view, and where the first shows no border, reading between pixels is exact up to the elastic bend
    original = plan.to_original(0, start)
    inner = ((places > 0) & (places < torch.tensor([29.0, 17.0]))).all(2) & ((original > 1) & (original < torch.tensor([28.0, 16.0]))).all(
        2
    )
    one, two = first[:, :2].flatten(2).mT * 255 / 8, read(second, places)[..., :2] * 255 / 8
    difference = (one - two).abs().amax(2)[together & inner]
    assert len(difference) > 500
    assert difference.max() < 0.2
    assert difference.mean() < 0.02
    # there and back, and what is told to lie outside does
    back, also = plan.between(1, 0, places)
    assert (back - start)[together & also].abs().max() < 0.05
    assert also[together & inner].double().mean() > 0.99
    source = plan.to_original(1, places)
    torch.testing.assert_close(source[together], original[together], rtol=0, atol=0.05)
    lost = ((original < -0.6) | (original > torch.tensor([29.6, 17.6]))).any(2)
    assert not together[lost].any()


def test_a_view_belongs_to_itself() -> None:
    plan = Warp(WIDE, **STRONG, elastic=0.05, padding="border").draw(INDICES, 0, 0)
    start = grid_of((18, 30), 8)
    places, _ = plan.between(1, 1, start)
    torch.testing.assert_close(places, start, rtol=0, atol=0.05)


def test_bumps_between_pixels_are_those_of_the_maps_at_pixels() -> None:
    maps = Geometry((18, 30), torch.device("cpu"), (18, 30)).maps[3:]
    torch.testing.assert_close(bumps_at(grid_of((18, 30), 1), (18, 30))[0], maps, rtol=0, atol=2e-5)
    torch.testing.assert_close(maps.sum(0), torch.ones(18 * 30), rtol=0, atol=1e-5)


# ---- pictures that are not square


def test_a_turn_of_a_wide_picture_is_one_of_its_pixels() -> None:
    plan = Warp(WIDE, rotation=40.0, scale=(1.0, 1.0)).draw(INDICES, 0, 0)
    cross = torch.tensor([[14.5, 8.5], [24.5, 8.5], [14.5, 18.5]]).expand(8, 3, 2)
    middle, right, below = plan.to_original(0, cross).unbind(1)
    torch.testing.assert_close(middle, cross[:, 0], rtol=0, atol=1e-4)
    torch.testing.assert_close((right - middle).norm(dim=1), torch.full((8,), 10.0), rtol=0, atol=1e-3)
    torch.testing.assert_close(((right - middle) * (below - middle)).sum(1), torch.zeros(8), rtol=0, atol=1e-2)
    assert ((right - middle)[:, 1].abs() > 0.5).sum() >= 5  # turned, most of them


def test_wide_pictures_keep_their_form_also_in_small_epochs() -> None:
    warp = Warp({"photo": WIDE, "mask": MAP}, small_size=9, small_epochs=2, **STRONG, elastic=0.1)
    samples = {"photo": loaded(WIDE), "mask": blobs(MAP, 3)}
    for epoch, size in ((0, (9, 15)), (1, (9, 15)), (2, (18, 30))):
        (view, _) = warp(samples, INDICES, seed=0, epoch=epoch)
        assert (view["photo"].shape, view["mask"].shape) == ((8, 3, *size), (8, *size))
    still = Warp(WIDE, rotation=0.0, scale=(1.0, 1.0))
    torch.testing.assert_close(still(samples["photo"], INDICES, 0, 0)[0], WIDE.normalize(samples["photo"]), rtol=0, atol=3e-5)
    with pytest.raises(ConfigError, match="larger than the images of 18 pixels"):
        Warp(WIDE, small_size=20, small_epochs=1)


# ---- a part for each field


def test_parts_for_each_field_draw_on_their_own() -> None:
    rows = SPECS["features"]
    noise, mask = FeatureNoise({"left": rows}), TokenMask({"words": SPECS["tokens"]})
    samples = {"left": loaded(rows), "right": loaded(rows), "words": loaded(SPECS["tokens"])}
    both = EachField([noise, FeatureNoise({"right": rows}), mask])
    plan = pickle.loads(pickle.dumps(both.draw(INDICES, 3, 5)))
    found = {field: both.apply(plan, field, batch) for field, batch in samples.items()}
    for view in both(samples, INDICES, seed=3, epoch=5):
        assert view.keys() == samples.keys()
    assert all(torch.equal(a, b) for a, b in zip(found["left"], noise(samples["left"], INDICES, 3, 5), strict=True))
    same = both.apply(plan, "right", samples["left"])
    assert not any(torch.equal(a, b) for a, b in zip(found["left"], same, strict=True))
    assert [view.dtype for view in found["words"]] == [torch.int64] * 2
    assert plan.draws.keys() == samples.keys()
    for parts in ([], [noise, noise], [noise, TokenMask({"words": SPECS["tokens"]}, views=3)]):
        with pytest.raises(ConfigError, match="give each field to one part"):
            EachField(parts)
    with pytest.raises(ConfigError, match="apply views to their own plans"):
        both.apply(noise.draw(INDICES, 0, 0), "left", samples["left"])


# ---- class maps


def test_class_maps_are_checked_fitted_and_counted() -> None:
    spec = ClassMapSpec(4, 6, classes=3)
    batch = torch.tensor([0, 1, 2, 255, 0, 1], dtype=torch.uint8).expand(2, 4, 6)
    assert torch.equal(spec.prepare(batch), batch.long())
    torch.testing.assert_close(spec.raw(batch)[0], torch.tensor([2.0, 2.0, 1.0]) / 6)
    large = ClassMapSpec(8, 12, classes=3).fit(batch)
    assert torch.equal(spec.fit(large), batch)
    assert torch.equal(large[:, ::2, ::2], batch)
    assert ClassMapSpec.from_dict(spec.to_dict()) == spec
    assert spec.blank(4)[:, 0, 0].tolist() == [0, 1, 2, 0]
    assert spec.describe() == "class maps of 4 x 6 of 3 classes"
    with pytest.raises(DataError, match="0 to 2 and 255 for none, got 3"):
        spec.prepare(batch + 1)
    with pytest.raises(DataError, match="whole numbers"):
        spec.prepare(batch.float())
