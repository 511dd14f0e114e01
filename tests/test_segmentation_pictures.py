"""Pictures of maps, checked by their values: colours inside, lines where borders are, indices that come back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kinshot.learn.monitor import Monitor
from kinshot.segmentation.pictures import (
    DIVERGING,
    GRAY,
    PALETTE,
    SEQUENTIAL,
    WAY_COLORS,
    border,
    heat,
    index_png,
    margin,
    margin_heat,
    overlay,
    picture_png,
    pixels_of,
)
from kinshot.segmentation.strips import GAP, Panel, enlarged, episode_panels, query_sheet, stacked, strip

NOTHING = 255
DEUTAN = [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
PROTAN = [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
"""What is left of linear light with no green or no red cones (Machado and others, 2009)."""


def rgb(color: str) -> list[int]:
    return list(bytes.fromhex(color[1:]))


def square() -> np.ndarray:
    values = np.zeros((20, 24), dtype=np.uint8)
    values[4:14, 6:18] = 1
    values[4:14, 12:18] = 2
    values[16:, :] = NOTHING
    return values


@pytest.mark.parametrize("seen", [np.eye(3), DEUTAN, PROTAN])
def test_ways_differ_for_everybody(seen: list[list[float]]) -> None:
    light = (np.array([rgb(color) for color in WAY_COLORS]) / 255) ** 2.2
    shown = 255 * np.clip(light @ np.array(seen).T, 0, 1) ** (1 / 2.2)
    apart = np.linalg.norm(shown[:, None] - shown[None], axis=-1)
    assert apart[~np.eye(len(shown), dtype=bool)].min() > 25
    assert len(np.unique(PALETTE, axis=0)) == 256


def test_the_ramp_rises_in_brightness() -> None:
    ramp = heat(np.linspace(0, 1, 64)[None])[0] @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(ramp) > 0).all()


def test_borders_are_where_a_loop_finds_them() -> None:
    values = square()
    for width in (1, 2):
        expected = np.zeros(values.shape, dtype=bool)
        for y, x in np.ndindex(values.shape):
            around = values[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
            expected[y, x] = values[y, x] not in (0, NOTHING) and bool((around != values[y, x]).any())
        assert (border(values, width) == expected).all()
    assert not border(np.ones((5, 5), dtype=np.uint8)).any(), "the picture's edge is no border"


def test_overlays_have_the_colours_that_they_say() -> None:
    values, ground = square(), np.full((20, 24, 3), 100, dtype=np.uint8)
    drawn = overlay(ground, values, fill=0.25, width=1)
    for value, inside in ((1, (8, 9)), (2, (8, 15))):
        color = np.array(rgb(WAY_COLORS[value - 1]))
        assert drawn[inside].tolist() == np.round(100 + 0.25 * (color - 100)).astype(int).tolist()
        edge = border(values) & (values == value)
        assert (drawn[edge] == color).all()
    assert (drawn[1, :3] == 100).all(), "ground away from every class is as it was"
    assert (drawn[3, 6:18] == 35).all(), "a dark line runs outside of the border"
    hatched = (drawn[values == NOTHING] == GRAY).all(-1)
    assert 0.3 < hatched.mean() < 0.7
    assert (drawn[values == NOTHING][~hatched] == 100).all()
    assert (ground == 100).all(), "the picture that was given stays"


def test_an_overlay_without_fill_and_border_is_the_picture() -> None:
    ground = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    values = np.where(square() == NOTHING, 0, square())
    assert (overlay(ground, values, fill=0, width=0) == ground).all()


def test_scores_become_colours_by_linear_steps() -> None:
    scores = np.array([[0.0, 0.5, 1.0, np.nan, 2.0]])
    drawn = heat(scores, 0, 1, ("#000000", "#ffffff"))
    assert drawn[0].tolist() == [[0] * 3, [128] * 3, [255] * 3, [GRAY] * 3, [255] * 3]
    assert heat(scores)[0, [0, 4]].tolist() == [rgb(SEQUENTIAL[0]), rgb(SEQUENTIAL[-1])]
    assert (heat(np.full((2, 2), 3.0)) == rgb(SEQUENTIAL[0])).all(), "a map of one value divides by nothing"
    assert (heat(np.full((2, 2), np.nan)) == GRAY).all()


def test_a_margin_is_to_the_best_other_and_its_sign_is_the_decision() -> None:
    scores = np.random.default_rng(1).normal(size=(4, 6, 7))
    for way in range(3):
        found = margin(scores, way)
        for y, x in np.ndindex(6, 7):
            others = [scores[k, y, x] for k in range(4) if k != way + 1]
            assert found[y, x] == pytest.approx(scores[way + 1, y, x] - max(others))
        assert ((found > 0) == (scores.argmax(0) == way + 1)).all()
        drawn = margin_heat(scores, way).astype(int)
        warm = drawn[..., 0] > drawn[..., 2]
        assert (warm == (found > 0))[np.abs(found) > 0.1].all(), "orange where the pixel is the way's, violet elsewhere"
    assert (margin_heat(np.zeros((2, 3, 3)), 0) == rgb(DIVERGING[3])).all()


def test_index_files_keep_every_value() -> None:
    values = np.arange(256, dtype=np.int64).reshape(16, 16)
    with Image.open(io.BytesIO(index_png(values))) as file:
        assert file.mode == "P"
        assert (np.asarray(file) == values).all()
        assert (np.asarray(file.convert("RGB")).reshape(-1, 3) == PALETTE).all()
    picture = np.random.default_rng(2).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(picture_png(picture))) as file:
        assert (np.asarray(file) == picture).all()


def test_images_of_any_channels_become_pictures() -> None:
    image = np.random.default_rng(3).integers(0, 256, (4, 3, 5), dtype=np.uint8)
    assert (pixels_of(image[:3]) == image[:3].transpose(1, 2, 0)).all()
    assert (pixels_of(image[:1])[..., 2] == image[0]).all()
    assert pixels_of(image[:2]).shape == (3, 5, 3)


def test_a_strip_shows_each_panel_in_its_place() -> None:
    rng = np.random.default_rng(4)
    picture, values = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8), square()
    scores = rng.normal(size=(3, 20, 24))
    panels = episode_panels([(picture, values), (picture, values)], picture, scores.argmax(0), scores, values, way=1, side=20)
    assert [panel.title for panel in panels] == ["support 1", "support 2", "query", "truth", "prediction", "score"]
    assert [panel.title for panel in episode_panels([(picture, values)], picture, values, scores)][:2] == ["support", "query"]
    drawn = strip(panels, height=20)
    left, top = GAP, len(drawn) - GAP - 20
    for panel in panels:
        assert panel.picture.shape == (20, 24, 3)
        assert (drawn[top : top + 20, left : left + 24] == panel.picture).all()
        left += 24 + GAP
    assert drawn.shape[1] == left
    assert (drawn[:top] != 255).any(), "titles"
    two = stacked([drawn, strip(panels[:2], height=20)])
    assert two.shape == (2 * len(drawn), left, 3)
    assert (two[len(drawn) :, 2 * (24 + GAP) + GAP :] == 255).all()


def test_a_sheet_of_queries_is_their_strips_and_goes_to_tensorboard(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    images, truth = rng.integers(0, 256, (2, 1, 20, 24), dtype=np.uint8), np.stack([square(), np.zeros((20, 24), dtype=np.uint8)])
    scores = rng.normal(size=(2, 3, 20, 24))
    support = [[(images[1], truth[0])], [(images[0], truth[1])]]
    drawn = query_sheet(images, truth, scores, [1, 0], support, height=40)
    for i, way in enumerate((1, 0)):
        pictures = [pixels_of(image) for image in images]
        panels = episode_panels(
            [(pictures[1 - i], support[i][0][1])], pictures[i], scores[i].argmax(0), scores[i], truth[i], way=way, side=40
        )
        one = strip(panels, height=40)
        assert (drawn[i * len(one) : (i + 1) * len(one)] == one).all()
    assert query_sheet(images, truth, scores, [0, 0], height=40).shape[1] < drawn.shape[1]
    with Monitor(tmp_path) as monitor:
        monitor.picture("segmentation/queries", drawn, 3)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    (shown,) = events.Images("segmentation/queries")
    assert shown.step == 3
    assert (np.asarray(Image.open(io.BytesIO(shown.encoded_image_string))) == drawn).all()


def test_small_maps_are_enlarged_in_whole_pixels() -> None:
    values = np.arange(6).reshape(2, 3)
    assert (enlarged(values, 5) == np.kron(values, np.ones((2, 2), dtype=int))).all()
    assert enlarged(values, 2).shape == (2, 3)
    assert strip([Panel("x", np.zeros((4, 8, 3), dtype=np.uint8))], height=10).shape[1] == 20 + 2 * GAP
