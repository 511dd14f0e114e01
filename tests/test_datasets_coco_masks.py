"""Objects of COCO's JSON drawn as class maps: polygons and run lengths against slow references, and what is wrong with lists of them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinshot.core.errors import DataError
from kinshot.datasets.coco_20i import NAMES
from kinshot.datasets.coco_masks import DrawnMasks, counts_of, drawn_polygon, drawn_runs, read_instances
from tests.trees import coco_categories


def inside(x: float, y: float, corners: list[float]) -> bool:
    """Whether a ray from a point to the left crosses an odd number of sides."""
    points = list(zip(corners[::2], corners[1::2], strict=True))
    odd = False
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
            odd = not odd
    return odd


def compressed(counts: list[int]) -> str:
    """COCO's compressed form of run lengths, written from its description."""
    text = ""
    for place, count in enumerate(counts):
        value = count - (counts[place - 2] if place > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            done = value == -1 if bits & 16 else value == 0
            text += chr(48 + (bits if done else bits | 32))
            if done:
                break
    return text


def runs_of(mask: np.ndarray) -> list[int]:
    counts, now = [0], False
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != now:
            counts.append(0)
            now = pixel
        counts[-1] += 1
    return counts


@pytest.mark.parametrize("seed", range(6))
def test_polygons_hold_the_pixels_whose_middle_is_inside(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-3, 18, 2 * generator.integers(3, 9)).round(2).tolist()
    found = drawn_polygon(np.array(corners), 13, 17)
    expected = [[inside(x + 0.5, y + 0.5, corners) for x in range(17)] for y in range(13)]
    assert np.array_equal(found, expected)


def test_polygons_on_whole_pixels() -> None:
    found = drawn_polygon(np.array([1, 2, 5, 2, 5, 4, 1, 4]), 8, 8)
    expected = np.zeros((8, 8), bool)
    expected[2:4, 1:5] = True
    assert np.array_equal(found, expected)
    assert not drawn_polygon(np.array([2, 2, 2, 2]), 8, 8).any()


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_come_back_from_both_forms(seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random((30, 40)) < [0.02, 0.5, 0.98, 0.0, 1.0][seed]
    mask[5:20, 7:30] ^= True
    counts = runs_of(mask)
    assert counts_of(compressed(counts)) == counts
    assert np.array_equal(drawn_runs(np.array(counts), 30, 40), mask)


def test_run_lengths_of_large_and_repeated_numbers() -> None:
    counts = [0, 307200, 5, 5, 5, 1, 40, 100000, 3]
    assert counts_of(compressed(counts)) == counts
    assert counts_of("") == []


@pytest.mark.parametrize(("text", "message"), [("P", "within a number"), ("a\x7f", "none of the form"), ("é", "ascii")])
def test_damaged_run_lengths(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counts_of(text)
    with pytest.raises(ValueError, match="its runs make 7 pixels of 8"):
        drawn_runs(np.array([3, 4]), 2, 4)


def written(path: Path, annotations: list[dict[str, Any]], **more: Any) -> Path:
    images = [{"id": 7, "file_name": "b.jpg", "height": 6, "width": 8}, {"id": 9, "file_name": "a.jpg", "height": 5, "width": 5}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": coco_categories(), **more}))
    return path


def square(category: int, left: float, top: float, side: float, **more: Any) -> dict[str, Any]:
    right, bottom = left + side, top + side
    corners = [left, top, right, top, right, bottom, left, bottom]
    return {"image_id": 7, "category_id": category, "iscrowd": 0, "area": side * side, "segmentation": [corners], **more}


def test_smaller_objects_lie_over_larger_ones_and_all_over_crowds(tmp_path: Path) -> None:
    crowd = np.zeros((6, 8), bool)
    crowd[:, :7] = True
    annotations = [
        square(90, 2, 2, 2),  # toothbrush, number 80
        square(13, 0, 0, 5),  # stop sign, number 12, as 12 is no id
        {"image_id": 7, "category_id": 1, "iscrowd": 1, "area": 42, "segmentation": {"counts": runs_of(crowd), "size": [6, 8]}},
        {**square(1, 0, 0, 1), "image_id": 9, "segmentation": {"counts": compressed([0, 5, 20]), "size": [5, 5]}},
    ]
    instances, files = read_instances(written(tmp_path / "i.json", annotations), NAMES)
    assert files == ["a.jpg", "b.jpg"]
    masks = DrawnMasks(instances, np.arange(2), files)
    expected = np.zeros((6, 8), np.uint8)
    expected[:, :7] = 255
    expected[:5, :5] = 12
    expected[2:4, 2:4] = 80
    assert np.array_equal(masks.read(1), expected)
    assert np.array_equal(masks.read(0), np.eye(1, 5, dtype=np.uint8).repeat(5, axis=0))
    again = pickle.loads(pickle.dumps(masks.take(np.array([1]))))
    assert np.array_equal(again.read(0), expected)
    assert again.digests(np.array([0]))[0] == masks.digests(np.array([1]))[0] != masks.digests(np.array([0]))[0]


def test_digests_do_not_depend_on_what_lies_around(tmp_path: Path) -> None:
    alone = read_instances(written(tmp_path / "a.json", [square(1, 0, 0, 3)]), NAMES)[0]
    other = read_instances(written(tmp_path / "b.json", [{**square(3, 1, 1, 2), "image_id": 9}, square(1, 0, 0, 3)]), NAMES)[0]
    moved = read_instances(written(tmp_path / "c.json", [square(1, 0, 0, 4)]), NAMES)[0]
    found = [DrawnMasks(one, np.array([row]), ["b"]).digests(np.array([0]))[0] for one, row in ((alone, 0), (other, 1), (moved, 0))]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 2, 3]]}, "a polygon has 3 numbers"),
        ({"segmentation": "x"}, "segmentation is str"),
        ({"segmentation": {"size": [6, 8]}}, "'counts' is missing"),
        ({"segmentation": {"counts": "P"}}, "ends within a number"),
        ({"category_id": 12}, "12 is missing"),
        ({"image_id": 8}, "8 is missing"),
    ],
)
def test_annotations_that_are_none(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "i.json", [square(1, 0, 0, 3) | change])
    with pytest.raises(DataError, match=rf"i\.json is no list of COCO's instances: .*{message}.*: copy the annotations again"):
        read_instances(path, NAMES)


def test_other_lists_and_other_classes(tmp_path: Path) -> None:
    (tmp_path / "i.json").write_text("[1]")
    with pytest.raises(DataError, match="expected an object, got list"):
        read_instances(tmp_path / "i.json", NAMES)
    wrong = coco_categories()
    wrong[4]["name"] = "aeroplane"
    with pytest.raises(DataError, match="has 80 classes, number 5 'aeroplane', expected 80 with 'airplane'"):
        read_instances(written(tmp_path / "i.json", [], categories=wrong), NAMES)
    with pytest.raises(DataError, match="has 3 classes, number 4 none, expected 80 with 'motorcycle'"):
        read_instances(written(tmp_path / "i.json", [], categories=coco_categories()[:3]), NAMES)


def test_runs_that_do_not_fit_their_picture_are_named(tmp_path: Path) -> None:
    bad = square(1, 0, 0, 3) | {"segmentation": {"counts": [5], "size": [6, 8]}}
    instances, files = read_instances(written(tmp_path / "i.json", [bad]), NAMES)
    with pytest.raises(DataError, match=r"cannot draw the annotations of b\.jpg: its runs make 5 pixels of 48"):
        DrawnMasks(instances, np.arange(1), files).read(0)
