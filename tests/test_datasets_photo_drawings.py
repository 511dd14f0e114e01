"""Drawings made from photographs: what a line is, against loops, and the source of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.edge_drawings import edge_drawings
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.labels import Marks
from kinshot.datasets.orders import ORDERS
from kinshot.datasets.photo_drawings import PhotoDrawings
from tests.trees import noise, write_folder, write_grocery


def slow(image, ink):
    """One image (C, H, W), pixel by pixel."""
    height, width = image.shape[1:]

    def pixel(plane, row, column):
        return int(plane[min(max(row, 0), len(plane) - 1)][min(max(column, 0), len(plane[0]) - 1)])

    weights = (1, 4, 6, 4, 1)
    smooth = [
        [
            [
                sum(weights[a] * weights[b] * pixel(plane, r + a - 2, c + b - 2) for a in range(5) for b in range(5)) // 16
                for c in range(width)
            ]
            for r in range(height)
        ]
        for plane in image.tolist()
    ]
    size, turn = np.zeros((height, width), dtype=np.int64), {}
    for r in range(height):
        for c in range(width):
            found = []
            for plane in smooth:
                x = sum(w * (pixel(plane, r + k, c + 1) - pixel(plane, r + k, c - 1)) for k, w in ((-1, 1), (0, 2), (1, 1)))
                y = sum(w * (pixel(plane, r + 1, c + k) - pixel(plane, r - 1, c + k)) for k, w in ((-1, 1), (0, 2), (1, 1)))
                found.append((x * x + y * y, x, y))
            size[r, c], x, y = max(found, key=lambda one: one[0])
            if 5 * abs(y) <= 2 * abs(x):
                turn[r, c] = 0, 1
            elif 5 * abs(x) <= 2 * abs(y):
                turn[r, c] = 1, 0
            else:
                turn[r, c] = (1, 1) if x * y > 0 else (1, -1)
    thin = size.copy()
    for (r, c), (down, across) in turn.items():
        ahead, behind = ((r + s * down, c + s * across) for s in (1, -1))
        value = [size[p] if 0 <= p[0] < height and 0 <= p[1] < width else 0 for p in (behind, ahead)]
        if not (size[r, c] > value[0] and size[r, c] >= value[1]):
            thin[r, c] = 0
    ordered = sorted(thin.ravel().tolist(), reverse=True)
    black = ordered[max(1, round(ink * thin.size)) - 1] or ordered[0] or 1
    dark = np.sqrt(np.minimum(thin / black, 1))
    return 255 - np.rint(255 * np.where(dark < 0.1, 0, dark)).astype(int)


@pytest.mark.parametrize(("seed", "channels", "ink"), [(0, 3, 0.08), (1, 1, 0.3), (2, 3, 0.001)])
def test_lines_are_where_loops_find_them(seed, channels, ink):
    image = noise(seed, channels, 13, 11)
    image[:, 4:9] //= 4
    found = edge_drawings(np.stack([image, image[:, ::-1]]), ink=ink)
    assert found.shape == (2, 1, 13, 11)
    assert found.dtype == np.uint8
    assert np.array_equal(found[0, 0], slow(image, ink))
    assert np.array_equal(found[1, 0], slow(image[:, ::-1], ink))


def test_a_square_has_its_outline_drawn_and_a_plain_image_nothing():
    image = np.full((2, 3, 24, 24), 200, np.uint8)
    image[0, :, 6:18, 6:18] = 40
    square, plain = edge_drawings(image)
    assert (plain == 255).all()
    dark = square[0] < 128
    for side in (dark, dark.T):  # both long sides, each in one line or the next
        assert side[4:8, 8:16].any(axis=0).all()
        assert side[16:20, 8:16].any(axis=0).all()
    assert not dark[8:16, 8:16].any()
    assert not dark[:4].any()
    assert not dark[:, :4].any()
    assert dark.sum() < 3 * 4 * 12


def test_edges_of_colour_alone_are_edges():
    image = np.zeros((1, 3, 12, 12), np.uint8)
    image[0, 0, :, :6], image[0, 1, :, 6:] = 150, 150
    assert (edge_drawings(image)[0, 0] < 128).any(axis=1).all()


def test_ink_is_a_share():
    for ink in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="ink between 0 and 1"):
            edge_drawings(noise(0, 1, 1, 8, 8), ink=ink)


@pytest.fixture(scope="module")
def grocery(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawings") / "set"
    write_grocery(root, official=False)
    return root


def build(root, **chosen):
    return SOURCES.build("photo_drawings", settings={"of": "grocery_store", "root": str(root), "split": "test", "size": 12, **chosen})


def test_drawings_follow_the_photographs_with_all_that_is_known_of_them(grocery):
    photos = SOURCES.build("grocery_store", settings={"root": str(grocery), "split": "test", "size": 12})
    both = build(grocery)
    count = len(photos)
    assert len(both) == 2 * count
    assert torch.equal(both.load(np.arange(count)), photos.load(np.arange(count)))
    expected = torch.from_numpy(edge_drawings(photos.load(np.arange(count)).numpy()))
    assert torch.equal(both.load(np.arange(count, 2 * count)), expected.expand(-1, 3, -1, -1))
    assert torch.equal(both.load([count + 3, 2, count]), torch.stack([both.load([k])[0] for k in (count + 3, 2, count)]))
    assert both.class_names == photos.class_names
    assert np.array_equal(both.labels, np.tile(photos.labels, 2))
    assert np.array_equal(both.attributes["coarse"], np.tile(photos.attributes["coarse"], 2))
    assert both.attribute_names["modality"] == ["photo", "drawing"]
    assert np.array_equal(both.attributes["modality"], np.repeat([0, 1], count))
    assert np.array_equal(both.attributes["photo"], np.tile(np.arange(count), 2))
    assert any("made from the photographs" in line and "nobody" in line for line in both.said())


def test_either_modality_alone_is_a_part_of_both(grocery):
    both, photo, drawing = (build(grocery, modality=name) for name in ("both", "photo", "drawing"))
    half = len(photo)
    assert len(both) == 2 * half == 2 * len(drawing)
    for alone, rows in ((photo, np.arange(half)), (drawing, np.arange(half, 2 * half))):
        assert torch.equal(alone.load(np.arange(half)), both.load(rows))
        for key, values in both.attributes.items():
            assert np.array_equal(alone.attributes[key], values[rows])
    assert len({source.fingerprint() for source in (both, photo, drawing, build(grocery, ink=0.2))}) == 4
    assert build(grocery).fingerprint() == both.fingerprint()


def test_photographs_in_files_are_drawn_when_asked_for(tmp_path: Path):
    write_folder(tmp_path)
    chosen = {"root": str(tmp_path), "split": "train", "size": 8}
    memory = SOURCES.build("photo_drawings", settings=chosen)
    files = SOURCES.build("photo_drawings", settings={"of": "folder:in_memory_mib=0", **chosen})
    assert memory.in_memory
    assert not files.in_memory
    assert torch.equal(files.load(np.arange(len(files))), memory.load(np.arange(len(memory))))


def test_batches_are_shared_by_photographs_and_drawings(grocery):
    both = build(grocery, split="train")
    marks = Marks(both.labels, both.categories)
    order = ORDERS.build("balanced", marks, 16, 3, 0, settings={"attribute": "modality"})
    for row in order(0).numpy():
        assert both.attributes["modality"][row].reshape(-1, 4).sum(axis=1).tolist() == [2, 2, 2, 2]


def test_what_cannot_be_drawn_is_refused(grocery):
    with pytest.raises(ConfigError, match="unknown data source 'grocery'"):
        build(grocery, of="grocery")
    with pytest.raises(ConfigError, match="source digits has no setting 'root'"):
        build(grocery, of="digits")
    with pytest.raises(ConfigError, match="label"):
        build(grocery, of="grocery_store:label=middle")
    with pytest.raises(DataError, match="gives features, and drawings are made from images alone"):
        PhotoDrawings(FeatureSource(np.zeros((3, 2), np.float32)))
    with pytest.raises(ConfigError, match="ink between 0 and 1"):
        build(grocery, ink=2.0)
