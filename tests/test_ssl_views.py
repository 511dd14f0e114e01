"""Views against slow references, and the promise that a sample's view does not depend on its batch."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import kinshot
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_uniform
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views._color import ColorStrength, blur, recolor
from kinshot.datasets.views._geometry import ELASTIC_POINTS, Geometry, WarpStrength, affine, coefficients
from kinshot.datasets.views.feature_noise import FeatureNoise
from kinshot.datasets.views.token_mask import TokenMask
from kinshot.datasets.views.warp import Warp
from kinshot.samples.characters import MASK, PADDING
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.tokens import TokenSpec

GRAY = PixelSpec.square(1, 12, (0.2,), (0.4,))
COLOR = PixelSpec.square(3, 12, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
EVERYTHING = {
    "rotation": 30.0, "aspect": 0.2, "shear": 0.2, "shift": 0.1, "crop": (0.4, 1.0), "crop_aspect": 0.28, "flip": 0.5, "elastic": 0.1,
    "thicken": 0.5, "erase": 0.5, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray": 0.2, "blur": 0.5,
}  # fmt: skip
STILL = {"rotation": 0.0, "scale": (1.0, 1.0)}


def pictures(count: int, channels: int, side: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("spec", [GRAY, COLOR])
@pytest.mark.parametrize("side", [12, 15])
def test_a_view_depends_on_seed_epoch_and_index_but_not_on_the_batch(spec, side):
    warp, images, indices = Warp(spec, **EVERYTHING), pictures(9, spec.channels, side), torch.arange(100, 109)
    whole = warp(images, indices, 3, 7)
    some = torch.tensor([4, 1, 8])
    part = warp(images[some], indices[some].numpy(), 3, 7)
    for a, b in zip(whole, part, strict=True):
        torch.testing.assert_close(a[some], b, rtol=0, atol=2e-6)
    for changed in (warp(images, indices, 4, 7), warp(images, indices, 3, 8), warp(images, indices + 50, 3, 7)):
        assert all((a - b).abs().amax((1, 2, 3)).min() > 1e-3 for a, b in zip(whole, changed, strict=True))
    assert (whole[0] - whole[1]).abs().amax((1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("spec", [GRAY, COLOR])
def test_no_strength_is_no_change(spec):
    images = pictures(5, spec.channels, 12)
    for view in Warp(spec, **STILL)(images, torch.arange(5), 0, 0):
        torch.testing.assert_close(view, spec.normalize(images), rtol=0, atol=3e-5)


@given(seed=st.integers(0, 2**31), side=st.integers(12, 50), channels=st.sampled_from([1, 3]))
@settings(max_examples=12, deadline=None)
def test_shape_layout_and_range(seed, side, channels):
    spec = GRAY if channels == 1 else COLOR
    views = Warp(spec, views=3, **EVERYTHING)(pictures(4, channels, side, seed), torch.arange(4), seed, 1)
    assert len(views) == 3
    low = (spec.normalize(torch.zeros(1, channels, 1, 1)) - 1e-5).clamp(max=-1e-5)
    high = spec.normalize(torch.ones(1, channels, 1, 1)) + 1e-5
    for view in views:
        assert view.shape == (4, channels, 12, 12)
        assert view.dtype == torch.float32
        assert view.is_contiguous(memory_format=torch.channels_last)
        assert bool((view >= low).all() & (view <= high).all())


def reference_matrix(u: np.ndarray, s: WarpStrength) -> np.ndarray:
    """Crop @ (Shift + Flip @ Rotation @ Shear @ Scale) as 3x3 homogeneous matrices in float64, one sample."""
    signed = 2 * u - 1
    angle, zoom = s.rotation * signed[0], math.exp(math.log(s.scale[0]) + (math.log(s.scale[1]) - math.log(s.scale[0])) * u[1])
    stretch = math.exp(s.aspect * signed[2] / 2)
    scale = np.diag([1 / (zoom * stretch), 1 / (zoom / stretch), 1])
    shear = np.array([[1, s.shear * signed[3], 0], [0, 1, 0], [0, 0, 1]])
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    flip = np.diag([-1 if u[6] < s.flip else 1, 1, 1])
    shift = np.array([[1, 0, 2 * s.shift * signed[4]], [0, 1, 2 * s.shift * signed[5]], [0, 0, 1]])
    area, ratio = s.crop[0] + (s.crop[1] - s.crop[0]) * u[7], math.exp(s.crop_aspect * signed[8])
    width, height = min(1, math.sqrt(area * ratio)), min(1, math.sqrt(area / ratio))
    crop = np.array([[width, 0, signed[9] * (1 - width)], [0, height, signed[10] * (1 - height)], [0, 0, 1]])
    return crop @ shift @ flip @ turn @ shear @ scale


def reference_sample(image: np.ndarray, x: float, y: float) -> float:
    """Bilinear value at pixel coordinates, zero outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@given(st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_affine_warp_equals_a_loop_over_pixels(seed):
    rng = np.random.default_rng(seed)
    u, size, side = rng.random((1, 12)), 5, 8
    strength = WarpStrength(0.5, (0.6, 1.3), 0.3, 0.3, 0.15, (0.4, 1.0), 0.3, 0.5, 0.0)
    image = rng.random((side, side))
    weights = coefficients(torch.tensor(u).float(), torch.zeros(1, 2 * ELASTIC_POINTS), strength)
    grid = Geometry((size, size), torch.device("cpu"), (size, size)).grid(weights)
    ours = torch.nn.functional.grid_sample(torch.tensor(image).float()[None, None], grid, align_corners=False)[0, 0].numpy()
    matrix = reference_matrix(u[0], strength)
    for row in range(size):
        for column in range(size):
            x, y, _ = matrix @ np.array([(column + 0.5) * 2 / size - 1, (row + 0.5) * 2 / size - 1, 1.0])
            expected = reference_sample(image, (x + 1) / 2 * side - 0.5, (y + 1) / 2 * side - 0.5)
            assert ours[row, column] == pytest.approx(expected, abs=2e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_crop_lies_inside_the_image(seed):
    u = torch.rand(64, 12, generator=torch.Generator().manual_seed(seed))
    strength = WarpStrength(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, (0.08, 1.0), 0.2877, 0.5, 0.0)
    matrix = affine(u, strength)
    reach = matrix[:, :, :2].abs().sum(2) + matrix[:, :, 2].abs()
    assert reach.max() <= 1 + 1e-5


def test_flip_mirrors_left_and_right():
    images = pictures(3, 1, 12)
    for view in Warp(GRAY, **STILL, flip=1.0)(images, torch.arange(3), 0, 0):
        torch.testing.assert_close(view, GRAY.normalize(images).flip(3), rtol=0, atol=3e-5)


def test_elastic_moves_pixels_and_has_the_stated_strength():
    geometry = Geometry((5, 5), torch.device("cpu"), (5, 5))  # output pixels close to the 5x5 control points
    strength = WarpStrength(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.1)
    u = torch.rand(4000, 12 + 2 * ELASTIC_POINTS, generator=torch.Generator().manual_seed(0))
    moved = geometry.grid(coefficients(u[:, :12], u[:, 12:], strength))
    still = geometry.grid(coefficients(u[:1, :12], torch.full((1, 2 * ELASTIC_POINTS), 0.5), strength))
    assert (moved - still)[:, 2, 2].std().item() == pytest.approx(0.1, rel=0.05)


def test_thicken_only_brightens_and_sometimes_does_nothing():
    images = pictures(200, 1, 12)
    view = Warp(GRAY, **STILL, thicken=0.5)(images, torch.arange(200), 0, 0)[0]
    difference = (view - GRAY.normalize(images)).amax((1, 2, 3))
    assert (view - GRAY.normalize(images)).min() > -1e-4
    assert 60 < int((difference > 1e-2).sum()) < 140


def test_erase_sets_one_rectangle_to_the_mean():
    images = torch.full((300, 1, 12, 12), 255, dtype=torch.uint8)
    view = Warp(GRAY, **STILL, erase=1.0)(images, torch.arange(300), 0, 0)[0]
    hole = (view[:, 0].abs() < 1e-6).double()
    rows, columns = hole.amax(2), hole.amax(1)
    torch.testing.assert_close(hole, rows[:, :, None] * columns[:, None, :])
    assert 0.0 < hole.mean((1, 2)).max() <= 0.35
    assert (hole.sum((1, 2)) > 0).double().mean() > 0.9


def test_color_settings_without_tones_leave_gray_images_alone():
    images = pictures(4, 1, 12)
    view = Warp(GRAY, **STILL, saturation=0.5, hue=0.2, gray=1.0)(images, torch.arange(4), 0, 0)[0]
    torch.testing.assert_close(view, GRAY.normalize(images), rtol=0, atol=3e-5)


def test_recolor_equals_brightness_contrast_saturation_and_hue_in_turn():
    rng = np.random.default_rng(0)
    image, u = 0.3 + 0.2 * rng.random((3, 6, 6)), rng.random(7)
    u[0], u[5] = 0.0, 1.0
    strength = ColorStrength(1.0, 0.2, 0.2, 0.2, 0.05, 0.5)
    factor = [1 + (2 * u[i] - 1) * 0.2 for i in (1, 2, 3)]
    luma = np.array([0.299, 0.587, 0.114])
    expected = image * factor[0]
    expected = factor[1] * expected + (1 - factor[1]) * np.tensordot(luma, expected, 1).mean()
    expected = factor[2] * expected + (1 - factor[2]) * np.tensordot(luma, expected, 1)
    yiq = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    turn = 2 * math.pi * 0.05 * (2 * u[4] - 1)
    rotation = np.array([[1, 0, 0], [0, math.cos(turn), -math.sin(turn)], [0, math.sin(turn), math.cos(turn)]])
    expected = np.tensordot(np.linalg.inv(yiq) @ rotation @ yiq, expected, 1).clip(0, 1)
    ours = recolor(torch.tensor(image[None]).float(), torch.tensor(u[None]).float(), strength)[0]
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-4)


def test_gray_removes_color_and_keeps_luma():
    x = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    out = recolor(x, torch.zeros(4, 7), ColorStrength(0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    luma = torch.einsum("c,bchw->bhw", torch.tensor([0.299, 0.587, 0.114]), x)
    torch.testing.assert_close(out, luma[:, None].expand_as(out), rtol=0, atol=1e-5)


def test_jitter_changes_some_samples_only():
    images = pictures(200, 3, 12)
    view = Warp(COLOR, **STILL, jitter=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)(images, torch.arange(200), 0, 0)[0]
    changed = (view - COLOR.normalize(images)).abs().amax((1, 2, 3)) > 1e-3
    assert 60 < int(changed.sum()) < 140


def test_blur_equals_a_convolution_and_keeps_a_constant():
    x = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
    out = blur(x, torch.tensor([[0.0, 1.0]]), 1.0, (0.1, 1.0))
    taps = np.exp(-0.5 * np.arange(-2, 3) ** 2.0)
    taps /= taps.sum()
    padded = np.pad(x[0, 0].numpy(), 2, mode="reflect")
    expected = sum(taps[i] * taps[j] * padded[i : i + 9, j : j + 9] for i in range(5) for j in range(5))
    np.testing.assert_allclose(out[0, 0].numpy(), expected, atol=1e-5)
    torch.testing.assert_close(blur(torch.ones(2, 3, 6, 6), torch.zeros(2, 2), 1.0, (0.5, 1.0)), torch.ones(2, 3, 6, 6))
    torch.testing.assert_close(blur(x, torch.tensor([[0.9, 1.0]]), 0.5, (0.1, 1.0)), x)


def test_large_sources_are_averaged_before_sampling():
    stripes = torch.zeros(1, 1, 96, 96, dtype=torch.uint8)
    stripes[..., ::2] = 254  # alternating columns: the only honest small picture is flat gray
    view = Warp(PixelSpec.square(1, 12, (0.0,), (1.0,)), **STILL)(stripes, torch.zeros(1, dtype=torch.int64), 0, 0)[0]
    torch.testing.assert_close(view, torch.full_like(view, 127 / 255), rtol=0, atol=1e-4)


def test_early_epochs_are_small():
    warp = Warp(PixelSpec.square(1, 28, (0.0,), (1.0,)), small_size=20, small_epochs=2)
    images, indices = pictures(2, 1, 28), torch.arange(2)
    assert [warp(images, indices, 0, e)[0].shape[-1] for e in range(4)] == [20, 20, 28, 28]


def test_registered_with_settings():
    warp = VIEWS.build("warp", GRAY, settings={"views": 1, "scale": [0.8, 1.1]})
    assert len(warp(pictures(2, 1, 12), np.arange(2), 0, 0)) == 1
    assert all(p.help for p in VIEWS.entry("warp").parameters.values())


@pytest.mark.parametrize(
    "bad",
    [
        {"flip": 1.5},
        {"scale": (1.2, 0.7)},
        {"crop": (0.5, 1.5)},
        {"crop": (0.0, 1.0)},
        {"hue": 0.6},
        {"contrast": -0.1},
        {"views": 0},
        {"small_epochs": 3},
    ],
)
def test_unusable_settings_are_refused(bad):
    with pytest.raises(ConfigError, match="warp"):
        Warp(GRAY, **bad)


# ---- features and texts

ROWS = RowSpec(6, (1.0,) * 6, (2.0,) * 6)
TEXTS = TokenSpec(10, "abcdef")


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return 1 + 2 * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def texts(lengths: torch.Tensor, seed: int = 0) -> torch.Tensor:
    ids = torch.randint(3, 9, (len(lengths), 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return ids.masked_fill(torch.arange(10) >= lengths[:, None], PADDING)


def test_every_views_have_their_samples():
    assert {"warp", "feature_noise", "token_mask"} <= set(VIEWS.names())
    for name, spec, message in (
        ("warp", ROWS, "takes image, and the samples are features: choose clean or feature_noise"),
        ("feature_noise", TEXTS, "takes features, and the samples are tokens: choose clean or token_mask"),
        ("token_mask", GRAY, "takes tokens, and the samples are image: choose clean or multi_crop or warp"),
    ):
        with pytest.raises(ConfigError, match=message):
            VIEWS.build(name, spec)
    for name in VIEWS.names():
        assert all(p.help for p in VIEWS.entry(name).parameters.values())


@pytest.mark.parametrize(
    ("views", "samples"),
    [
        (FeatureNoise(ROWS, mask=0.3, noise=0.2, scale=0.5), rows(9)),
        (TokenMask(TEXTS, mask=0.4), texts(torch.full((9,), 10))),
    ],
    ids=["feature_noise", "token_mask"],
)
def test_the_view_of_a_row_or_text_is_its_own(views, samples):
    indices = torch.arange(100, 109)
    whole, some = views(samples, indices, 3, 7), torch.tensor([4, 1, 8])
    for a, b in zip(whole, views(samples[some], indices[some].numpy(), 3, 7), strict=True):
        assert torch.equal(a[some], b)
    others = (views(samples, indices, 4, 7), views(samples, indices, 3, 8), views(samples, indices + 50, 3, 7), whole[::-1])
    for changed in others:
        assert all(not torch.equal(a, b) for a, b in zip(whole, changed, strict=True))


def test_feature_noise_equals_a_loop():
    views = FeatureNoise(ROWS, views=1, mask=0.3, noise=0.2, scale=0.5)
    x, normal = rows(5), NormalDist()
    got = views(x, np.arange(5), 1, 2)[0]
    draws = keyed_uniform(1, "view0", 2, np.arange(5), 13).astype(np.float64)
    for row in range(5):
        for column in range(6):
            value = (float(x[row, column]) - 1) / 2 * (1 + 0.5 * (2 * draws[row, 0] - 1))
            value += 0.2 * normal.inv_cdf(draws[row, 7 + column] + 2.0**-25)
            expected = 0.0 if draws[row, 1 + column] < 0.3 else value
            assert got[row, column].item() == pytest.approx(expected, abs=1e-5)


def test_feature_noise_has_the_stated_strength():
    x = torch.full((4000, 6), 3.0)  # normalised: 1
    (view,) = FeatureNoise(ROWS, views=1, mask=0.25, noise=0.5)(x, torch.arange(4000), 0, 0)
    hidden = view == 0
    assert hidden.double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert view[~hidden].mean().item() == pytest.approx(1.0, abs=0.02)
    assert view[~hidden].std().item() == pytest.approx(0.5, abs=0.02)
    still = FeatureNoise(ROWS, mask=0.0, noise=0.0)(x, torch.arange(4000), 0, 0)
    assert all(torch.equal(v, ROWS.normalize(x)) for v in still)


def test_hidden_features_do_not_depend_on_the_other_effects():
    x = rows(50)
    hidden = [
        FeatureNoise(ROWS, mask=0.4, **more)(x, torch.arange(50), 0, 0)[0] == 0 for more in ({"noise": 0.0}, {"noise": 1.0, "scale": 0.9})
    ]
    assert torch.equal(*hidden)


@given(seed=st.integers(0, 2**31), mask=st.sampled_from([0.0, 0.15, 1.0]))
@settings(max_examples=15, deadline=None)
def test_token_mask_hides_characters_only_and_one_at_least(seed, mask):
    lengths = torch.randint(1, 11, (20,), generator=torch.Generator().manual_seed(seed))
    clean = texts(lengths, seed)
    for view in TokenMask(TEXTS, views=2, mask=mask)(clean, torch.arange(20), seed, 0):
        assert view.dtype == torch.int64
        hidden = view == MASK
        assert torch.equal(view.masked_fill(hidden, 0), clean.long().masked_fill(hidden, 0))
        assert not hidden[clean == PADDING].any()
        assert hidden.sum(1).min() >= 1
        if mask == 0.0:
            assert torch.equal(hidden.sum(1), torch.ones(20, dtype=torch.int64))
        if mask == 1.0:
            assert torch.equal(hidden, clean != PADDING)


def test_token_mask_has_the_stated_probability():
    clean = texts(torch.full((3000,), 10))
    (view,) = TokenMask(TEXTS, views=1, mask=0.3)(clean, torch.arange(3000), 0, 0)
    # 0.3, and 0.7^10 of the texts would have none but for the rule
    assert (view == MASK).double().mean().item() == pytest.approx(0.3 + 0.7**10 / 10, abs=0.01)
    empty = TokenMask(TEXTS, views=1)(torch.zeros(2, 10, dtype=torch.uint8), torch.arange(2), 0, 0)[0]
    assert not empty.any()


@pytest.mark.parametrize("bad", [{"views": 0}, {"mask": 1.0}, {"mask": -0.1}, {"noise": -1.0}, {"scale": 1.0}])
def test_unusable_noise_is_refused(bad):
    with pytest.raises(ConfigError, match="feature_noise"):
        FeatureNoise(ROWS, **bad)


@pytest.mark.parametrize("bad", [{"views": 0}, {"mask": 1.1}, {"mask": -0.1}])
def test_unusable_masks_are_refused(bad):
    with pytest.raises(ConfigError, match="token_mask"):
        TokenMask(TEXTS, **bad)


def test_photographs_have_no_black_wedges_unless_asked_for():
    """A turned and shrunk picture leaves corners: in colour they continue the picture, on black grounds they stay black."""
    turned = {"rotation": 45.0, "scale": (0.5, 0.5)}

    def darkest(spec, **settings):
        white = torch.full((6, spec.channels, 12, 12), 255, dtype=torch.uint8)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
        return min(float((view * std + mean).min()) for view in Warp(spec, **turned, **settings)(white, torch.arange(6), 0, 0))

    assert darkest(COLOR) > 0.99
    assert darkest(COLOR, padding="zeros") < 0.01
    assert darkest(GRAY) < 0.01
    images, indices = pictures(5, 1, 12), torch.arange(5)
    for a, b in zip(
        Warp(GRAY, **EVERYTHING)(images, indices, 1, 2), Warp(GRAY, **EVERYTHING, padding="zeros")(images, indices, 1, 2), strict=True
    ):
        assert torch.equal(a, b)


def test_shipped_recipes_keep_the_views_of_their_tables():
    """The recipes of published figures; one that came with the default itself need not name it."""
    configs = Path(kinshot.__file__).parent / "recipes" / "configs"
    recipes = [yaml.safe_load(path.read_text()) for name in ("glyphs", "grocery", "omniglot") for path in configs.glob(f"{name}_*.yaml")]
    warped = [recipe["views"] for recipe in recipes if recipe.get("views", {}).get("name") == "warp"]
    assert len(warped) >= 9
    assert {views.get("padding") for views in warped} == {"zeros"}
