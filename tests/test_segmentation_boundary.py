"""F-score of outlines, against distances between every two pixels."""

from __future__ import annotations

from math import ceil, hypot
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.segmentation.boundary import count_edges
from kinshot.segmentation.counts import Counts
from kinshot.segmentation.rules import boundary_f, class_table
from tests.reference_segmentation_rules import IGNORE

Pixels = list[tuple[int, int]]


def blobs(seed: int, ways: int, size: tuple[int, int] = (9, 12), images: int = 3, ignored: float = 0.04) -> tuple[np.ndarray, np.ndarray]:
    """Labels and way maps of some rectangles each; some pixels of the truth say nothing."""
    rng = np.random.default_rng(seed)
    found = np.zeros((2, images, *size), dtype=np.int64)
    for maps in found.reshape(-1, *size):
        for _ in range(rng.integers(0, 4)):
            top, left = rng.integers(0, size[0] - 2), rng.integers(0, size[1] - 2)
            maps[top : top + rng.integers(1, 6), left : left + rng.integers(1, 7)] = rng.integers(1, ways + 1)
    found[1][rng.random(found[1].shape) < ignored] = IGNORE
    return found[0], found[1]


def outline(labels: np.ndarray, way: int, known: np.ndarray) -> Pixels:
    found = []
    for y, x in np.argwhere((labels == way) & known).tolist():
        beside = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(v, u) for v, u in beside if 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1]]
        if any(known[p] and labels[p] != way for p in inside):
            found.append((y, x))
    return found


def near(pixel: tuple[int, int], others: Pixels, radius: int) -> bool:
    return any((pixel[0] - v) ** 2 + (pixel[1] - u) ** 2 <= radius**2 for v, u in others)


def slow(labels: np.ndarray, truth: np.ndarray, way: int, tolerance: float) -> list[int]:
    """The four numbers of one image by the rule `drop`."""
    radius, known = ceil(tolerance * hypot(*truth.shape)), truth != IGNORE
    unsaid = [(int(y), int(x)) for y, x in np.argwhere(~known)]
    mine, theirs = outline(labels, way, known), outline(truth, way, known)
    said, is_ = ([p for p in line if not near(p, unsaid, radius)] for line in (mine, theirs))
    return [sum(near(p, theirs, radius) for p in said), len(said), sum(near(p, mine, radius) for p in is_), len(is_)]


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("tolerance", [0.01, 0.12])
def test_outlines_are_counted_as_by_looking_at_every_two_pixels(ways: int, tolerance: float) -> None:
    for seed in range(6):
        labels, truth = blobs(seed, ways)
        found = count_edges(torch.from_numpy(labels), torch.from_numpy(truth), ways, tolerance=tolerance)
        expected = [[slow(labels[b], truth[b], way + 1, tolerance) for way in range(ways)] for b in range(len(truth))]
        assert found.tolist() == expected


def test_a_rim_without_a_truth_is_shared_out_to_the_nearest() -> None:
    truth = torch.zeros(1, 11, 11, dtype=torch.int64)
    truth[0, 2:9, 2:9], truth[0, 4:7, 4:7] = IGNORE, 1  # a rim of two pixels: the inner ring is nearer to the thing
    wide, shifted = torch.zeros_like(truth), torch.zeros_like(truth)
    wide[0, 2:9, 2:9], shifted[0, 4:7, 6:11] = 1, 1
    assert count_edges(wide, truth, 1, unsaid="nearest").tolist() == [[[16, 16, 16, 16]]]
    assert count_edges(wide, truth, 1, unsaid="drop").tolist() == [[[0, 0, 0, 0]]]
    found = count_edges(shifted, truth, 1, unsaid="nearest")[0, 0]
    assert found[3] == 16
    assert 0 < found[0] < found[1]
    assert 0 < found[2] < 16


@given(st.integers(0, 10**6), st.sampled_from(["drop", "nearest"]))
def test_what_is_said_where_nothing_is_known_changes_nothing(seed: int, unsaid: Literal["drop", "nearest"]) -> None:
    labels, truth = blobs(seed, 2, ignored=0.2)
    other = np.where(truth == IGNORE, np.random.default_rng(seed).integers(0, 3, truth.shape), labels)
    one, two = (count_edges(torch.from_numpy(each), torch.from_numpy(truth), 2, unsaid=unsaid) for each in (labels, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("unsaid", ["drop", "nearest"])
def test_an_image_is_counted_as_it_is_alone(unsaid: Literal["drop", "nearest"]) -> None:
    labels, truth = blobs(1, 2, images=5)
    truth[3] = IGNORE
    both = torch.from_numpy(labels), torch.from_numpy(truth)
    together = count_edges(*both, 2, tolerance=0.1, unsaid=unsaid)
    for b in range(5):
        np.testing.assert_array_equal(together[b], count_edges(both[0][b : b + 1], both[1][b : b + 1], 2, tolerance=0.1, unsaid=unsaid)[0])
    assert together[3].tolist() == [[0] * 4] * 2


def test_outlines_that_are_marked_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, truth = (torch.from_numpy(each) for each in blobs(2, 2))
    whole = count_edges(labels, truth, 2, tolerance=0.2)
    monkeypatch.setattr("kinshot.segmentation.boundary._AT_ONCE", 100)
    np.testing.assert_array_equal(count_edges(labels, truth, 2, tolerance=0.2), whole)


def of_edges(edges: list[list[int]]) -> Counts:
    """Episodes of one query and way, each of another class, that have these outlines."""
    count = len(edges)
    return Counts(np.arange(1, count + 1)[:, None], np.zeros((count, 1, 2, 2), dtype=np.int64), np.array(edges).reshape(count, 1, 1, 4))


def test_the_score_of_what_is_half_there() -> None:
    found = boundary_f(of_edges([[6, 8, 3, 4], [0, 0, 0, 5], [0, 7, 0, 0], [0, 0, 0, 0], [4, 4, 4, 4]]))
    np.testing.assert_allclose(found.each, [0.75, 0.0, 0.0, np.nan, 1.0])
    assert found.excluded == 1
    assert found.value == pytest.approx(1.75 / 4)
    assert [row.boundary for row in class_table(of_edges([[6, 8, 3, 4], [0, 0, 0, 0]]))] == [0.75, None]


def test_a_border_of_the_image_is_no_outline() -> None:
    whole = torch.ones(1, 6, 6, dtype=torch.int64)
    assert count_edges(whole, whole, 1).tolist() == [[[0, 0, 0, 0]]]


@pytest.mark.parametrize("settings", [{"tolerance": 0.0}, {"tolerance": 1.0}, {"unsaid": "guess"}])
def test_other_settings_are_refused(settings: dict[str, object]) -> None:
    nothing = torch.zeros(1, 3, 3, dtype=torch.int64)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        count_edges(nothing, nothing, 1, **settings)  # type: ignore[arg-type]
