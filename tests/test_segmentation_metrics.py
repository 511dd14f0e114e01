"""Counts of segmentation and the rules over them, against loops over pixels."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DataError
from kinshot.segmentation import counts as counts_module
from kinshot.segmentation import rules as rules_module
from kinshot.segmentation.counts import Counts, count_pixels, counted, joined
from kinshot.segmentation.rules import RULES, boundary_f, class_table, fb_iou, image_iou, miou, panet_miou, rule_named
from tests.reference_segmentation_rules import IGNORE, rule

OF_PIXELS = [name for name in RULES if name != "boundary_f"]
Episodes = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn(seed: int, episodes: int = 6, queries: int = 2, ways: int = 1, side: int = 5, pool: int = 4, ignored: float = 0.15) -> Episodes:
    """Labels, way maps and classes; now and then a label is absent from truth or prediction."""
    rng = np.random.default_rng(seed)
    classes = np.stack([rng.permutation(np.arange(1, pool + 1))[:ways] for _ in range(episodes)])
    shape = (episodes, queries, side, side)
    truth, prediction = (rng.integers(0, rng.integers(1, ways + 2, (episodes, queries, 1, 1)), shape) for _ in range(2))
    truth[rng.random(shape) < ignored] = IGNORE
    return prediction, truth, classes


def count(case: Episodes) -> Counts:
    prediction, truth, classes = case
    return counted(torch.from_numpy(prediction), torch.from_numpy(truth), classes)


@pytest.mark.parametrize("name", OF_PIXELS)
@pytest.mark.parametrize("ways", [1, 2, 3])
def test_a_rule_is_what_its_definition_says_pixel_by_pixel(name: str, ways: int) -> None:
    for seed in range(5):
        case = drawn(seed, ways=ways)
        assert RULES[name](count(case)).value == pytest.approx(rule(name, *case), abs=1e-12)


def test_counts_are_those_of_each_label() -> None:
    prediction, truth, classes = drawn(0, ways=2)
    found = count((prediction, truth, classes))
    for label in range(3):
        known = truth != IGNORE
        said, is_ = (prediction == label) & known, truth == label
        np.testing.assert_array_equal(found.overlap[..., label], (said & is_).sum((2, 3)))
        np.testing.assert_array_equal(found.predicted[..., label], said.sum((2, 3)))
        np.testing.assert_array_equal(found.true[..., label], is_.sum((2, 3)))
        np.testing.assert_array_equal(found.union[..., label], (said | is_).sum((2, 3)))


def flat(prediction: int, truth: int, classes: tuple[int, ...] = (1,)) -> Counts:
    """One episode of one query of four pixels, all of one label."""
    shape = (1, 1, 2, 2)
    return count((np.full(shape, prediction), np.full(shape, truth), np.array([classes])))


def test_nothing_predicted_everything_predicted_and_nothing_to_find() -> None:
    assert miou(flat(0, 1)).value == 0
    assert miou(flat(1, 1)).value == 1
    assert miou(flat(1, 0)).value == 0
    assert fb_iou(flat(0, 0)).each.tolist()[0] == 1
    for name in OF_PIXELS:  # no pixel counts at all: neither 0 nor 1
        nothing = RULES[name](flat(1, IGNORE))
        assert math.isnan(nothing.value)
        assert nothing.excluded == len(nothing.groups)


def test_a_class_of_no_pixel_is_left_out_and_counted() -> None:
    absent = miou(flat(1, 1, classes=(4, 7)))  # way 2 is neither there nor predicted
    assert absent.groups.tolist() == [4, 7]
    np.testing.assert_array_equal(absent.each, [1.0, np.nan])
    assert (absent.value, absent.excluded) == (1.0, 1)
    assert miou(flat(2, 1, classes=(4, 7))).each.tolist() == [0.0, 0.0]  # predicted though absent is an error, not an absence


def test_the_panet_rule_forgives_what_is_found_where_the_class_is_not() -> None:
    both = joined([flat(1, 1), flat(1, 0)])
    assert miou(both).value == 0.5
    assert panet_miou(both).value == 1.0
    assert image_iou(both).value == 0.5


def test_ways_are_put_to_their_classes() -> None:
    prediction, truth, classes = drawn(3, ways=3)
    order = np.array([0, 3, 1, 2, *[0] * (IGNORE - 4), IGNORE])  # label of way w becomes order[w + 1]
    turned = np.empty_like(classes)
    turned[:, order[1:4] - 1] = classes
    one, other = count((prediction, truth, classes)), count((order[prediction], order[truth], turned))
    for name in OF_PIXELS:
        np.testing.assert_allclose(RULES[name](one).each, RULES[name](other).each, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_ignored_pixels_never_change_a_figure(seed: int, ways: int) -> None:
    prediction, truth, classes = drawn(seed, ways=ways, ignored=0.4)
    rng = np.random.default_rng(seed + 1)
    other = np.where(truth == IGNORE, rng.choice([*range(ways + 1), 77, IGNORE], truth.shape), prediction)
    np.testing.assert_array_equal(count((prediction, truth, classes)).confusion, count((other, truth, classes)).confusion)


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_the_order_of_episodes_does_not_matter(seed: int, ways: int) -> None:
    found = count(drawn(seed, ways=ways))
    order = np.random.default_rng(seed).permutation(len(found))
    for name in OF_PIXELS:
        np.testing.assert_allclose(RULES[name](found).each, RULES[name](found[order]).each, atol=1e-12)


def test_lists_of_episodes_are_joined() -> None:
    case = drawn(0, episodes=5)
    parts = [count((case[0][rows], case[1][rows], case[2][rows])) for rows in (slice(0, 2), slice(2, 5))]
    whole = joined(parts)
    np.testing.assert_array_equal(whole.confusion, count(case).confusion)
    np.testing.assert_array_equal(whole.classes, case[2])
    np.testing.assert_array_equal(whole[2:].confusion, parts[1].confusion)
    with pytest.raises(DataError, match="one shape"):
        joined([parts[0], count(drawn(0, ways=2))])
    with pytest.raises(DataError, match="one shape"):
        joined([])


def test_an_episode_has_its_own_figure() -> None:
    found = count(drawn(1, ways=2))
    alone = [miou(found[e : e + 1]).value for e in range(len(found))]
    np.testing.assert_allclose(miou(found).by_episode, alone, atol=1e-12)


def test_the_table_has_a_row_for_every_class() -> None:
    case = drawn(2, episodes=8, ways=2)
    found, names = count(case), ["ape", "bee", "cat", "dog"]
    table = class_table(found, names)
    assert [row.name for row in table] == names
    np.testing.assert_allclose([row.iou for row in table], miou(found).each)  # type: ignore[arg-type]
    for row in table:
        alone = np.argwhere(case[2] == row.value)
        said = np.concatenate([case[0][e][case[1][e] != IGNORE] == w + 1 for e, w in alone])
        is_ = np.concatenate([case[1][e][case[1][e] != IGNORE] == w + 1 for e, w in alone])
        assert row.episodes == len(alone)
        assert row.images == sum((case[1][e, q] == w + 1).any() for e, w in alone for q in range(2))
        assert row.pixels == is_.sum()
        assert row.precision == pytest.approx((said & is_).sum() / said.sum())
        assert row.recall == pytest.approx((said & is_).sum() / is_.sum())
        assert row.boundary is None
    assert class_table(flat(0, 0))[0].as_dict()["iou"] is None
    assert class_table(flat(0, 0))[0].name == "1"


def test_what_cannot_be_counted_is_refused() -> None:
    truth = torch.zeros(1, 2, 2, dtype=torch.int64)
    for wrong in (truth + 2, truth - 1):
        with pytest.raises(DataError, match="labels are 0 to 1"):
            count_pixels(wrong, truth, 2)
        with pytest.raises(DataError, match="labels are 0 to 1"):
            count_pixels(truth, wrong, 2)
    with pytest.raises(DataError, match="of one shape"):
        count_pixels(truth, truth[:, :1], 2)
    with pytest.raises(DataError, match="counts of 1 episodes of 2 ways"):
        Counts(np.ones((1, 2), dtype=np.int64), np.zeros((1, 1, 2, 2), dtype=np.int64))
    with pytest.raises(DataError, match="no outlines"):
        boundary_f(flat(0, 1))
    with pytest.raises(ConfigError, match="did you mean 'miou'"):
        rule_named("mIoU")


@pytest.mark.parametrize("module", [counts_module, rules_module])
def test_examples_say_what_is_so(module: object) -> None:
    done = doctest.testmod(module, extraglobs={"torch": torch, "np": np})  # type: ignore[arg-type]
    assert done.attempted > 0
    assert done.failed == 0
