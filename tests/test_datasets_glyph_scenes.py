"""Scenes of glyphs: exact masks, balanced classes, drawn by keys."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES, glyph_scenes
from kinshot.datasets.scenes import ArrayScenes

SMALL: dict[str, Any] = {"size": 48, "classes": 12, "per_class": 5}


def build(**settings: Any) -> ArrayScenes:
    return SOURCES.build("glyph_scenes", settings={**SMALL, **settings})


@pytest.mark.parametrize(("classes", "glyphs", "per_class"), [(4, 2, 2), (7, 3, 5), (8, 4, 9), (250, 3, 36), (9, 1, 3)])
def test_every_class_is_in_as_many_scenes_and_never_twice_in_one(classes: int, glyphs: int, per_class: int) -> None:
    held = glyph_scenes.classes_of_scenes(classes, glyphs, per_class, "test")
    assert all(len(set(row)) == glyphs for row in held.tolist())
    counts = np.bincount(held.reshape(-1), minlength=classes)
    assert counts.min() == per_class
    assert counts.sum() - classes * per_class < glyphs


def test_classes_meet_many_others() -> None:
    held = glyph_scenes.classes_of_scenes(20, 2, 30, "test")
    met = {frozenset(pair) for row in held.tolist() for pair in combinations(row, 2)}
    assert len(met) > 100  # of 190; 30 rounds of 10 scenes draw 300 pairs


def test_scenes_hold_their_classes_and_each_is_a_photograph() -> None:
    source = build()
    held = glyph_scenes.classes_of_scenes(12, 3, 5, "train")
    assert len(source) == len(held) == 20
    expected = np.zeros((20, 12), bool)
    np.put_along_axis(expected, held, True, axis=1)
    assert np.array_equal(source.contains, expected)
    assert source.photos.tolist() == list(range(20))


def test_splits_share_neither_script_nor_ground() -> None:
    parts = {split: build(split=split) for split in ("train", "val", "test")}
    scripts = {split: {name.split("/")[0] for name in part.class_names} for split, part in parts.items()}
    for one, other in combinations(parts, 2):
        assert not scripts[one] & scripts[other]
        assert not (parts[one].images == parts[other].images).all(axis=(1, 2, 3)).any()


def test_ink_stands_out_from_the_ground_around_it_and_the_mask_is_where_it_is() -> None:
    """The same scenes over two grounds: what does not move with the ground is ink, and that is the mask."""
    plain, loud = build(contrast=0.0), build(contrast=1.0)
    assert np.array_equal(plain.masks, loud.masks)
    for image, mask in zip(plain.images.astype(int), plain.masks, strict=True):
        ground = image[:, 0, 0] if not mask[0, 0] else image[:, mask == 0][:, 0]
        far = np.abs(image - ground[:, None, None]).max(axis=0)
        # a pixel with no ink has the ground's colour; one of the mask is at least half way to the ink's
        assert (far[mask > 0] > 20).mean() > 0.99
        assert (far[mask == 0] == 0).mean() > 0.75
        for value in set(mask[mask > 0].tolist()):
            whole = image[:, mask == value]
            assert (np.abs(whole - np.median(whole, axis=1, keepdims=True)).max(axis=0) < 3).mean() > 0.4


def test_strokes_are_wide_enough_for_a_network_of_stride_four() -> None:
    source = SOURCES.build("glyph_scenes", settings={"classes": 40, "per_class": 3})
    widths = []
    for mask in source.masks:
        for value in np.unique(mask[mask > 0]):
            ink = (mask == value).astype(int)
            outline = np.abs(np.diff(ink, axis=0)).sum() + np.abs(np.diff(ink, axis=1)).sum()
            widths.append(2 * ink.sum() / (outline * np.pi / 4))
    assert 3.8 < np.median(widths) < 6.5
    assert np.quantile(widths, 0.05) > 2.5


def test_the_same_settings_give_the_same_pixels_without_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    first = build().images.copy()
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path))
    glyph_scenes._scenes.cache_clear()
    assert np.array_equal(build().images, first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"size": 8}, "size must be in"), ({"glyphs": 5}, "glyphs in 1..4"), ({"classes": 5}, "classes must be in 6..250"),
     ({"classes": 251}, "classes must be"), ({"per_class": 1}, "per_class in 2"), ({"contrast": 1.5}, "contrast must be")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**settings)


def test_light_ink_is_lighter_than_its_ground_in_every_channel_and_any_ink_is_not() -> None:
    for ink, least, most in (("light", 1.0, 1.0), ("any", 0.05, 0.95)):
        scenes = build(ink=ink)
        lighter = []
        for image, mask in zip(scenes.images, scenes.masks, strict=True):
            drawn, ground = image[:, mask > 0], image[:, mask == 0]
            lighter.append((np.median(drawn, axis=1) > np.median(ground, axis=1)).all())
        assert least <= np.mean(lighter) <= most, ink
