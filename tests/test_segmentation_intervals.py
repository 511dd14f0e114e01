"""Bootstrap of figures of segmentation, and the class-blind rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.errors import DataError
from kinshot.core.rng import keyed_numpy
from kinshot.segmentation.class_blind import ALL_FOREGROUND, CLASS_BLIND, SALIENCY, class_blind
from kinshot.segmentation.counts import Counts, counted
from kinshot.segmentation.intervals import difference, over_classes, over_episodes
from kinshot.segmentation.rules import RULES, fb_iou, image_iou, miou

PIXELS = 400


def made(seed: int, episodes: int = 60, ways: int = 1, classes: int = 5, skill: float = 0.0) -> Counts:
    """Counts of episodes of which some classes are easier; the episodes are the same for every skill."""
    rng = np.random.default_rng(seed)
    whose = np.stack([rng.permutation(np.arange(1, classes + 1))[:ways] for _ in range(episodes)])
    true = rng.dirichlet(np.ones(ways + 1), episodes)
    ease, draw = rng.uniform(0.4, 0.8, classes + 1), rng.uniform(-0.1, 0.1, (episodes, 1))
    right = np.clip(np.concatenate([np.full((episodes, 1), 0.8), ease[whose]], axis=1) + draw + skill, 0, 1)
    areas = (true * PIXELS).astype(np.int64)
    hit = (areas * right).astype(np.int64)
    confusion = np.zeros((episodes, 1, ways + 1, ways + 1), dtype=np.int64)
    for label in range(ways + 1):
        confusion[:, 0, label, label] = hit[:, label]
        confusion[:, 0, label, (label + 1) % (ways + 1)] = areas[:, label] - hit[:, label]
    return Counts(whose, confusion)


@pytest.mark.parametrize("name", ["miou", "fb_iou", "image_iou", "panet_miou", "dice"])
@pytest.mark.parametrize("ways", [1, 2])
def test_a_draw_of_episodes_has_the_figure_of_the_counts_of_these_episodes(name: str, ways: int) -> None:
    counts, rule, draws = made(0, episodes=12, ways=ways), RULES[name], 40
    numbers = keyed_numpy(3, "segmentation/bootstrap/episodes", 12).integers(12, size=(draws, 12))
    slow = [rule(counts[row]).value for row in numbers]
    found = over_episodes(rule(counts), seed=3, draws=draws)
    np.testing.assert_allclose([found.low, found.high], np.quantile(slow, [0.025, 0.975]))
    assert (found.value, found.over, found.draws) == (rule(counts).value, "episodes", draws)


def test_a_draw_of_classes_has_the_figure_of_these_classes() -> None:
    counts, draws = made(1, ways=2), 40
    numbers = keyed_numpy(3, "segmentation/bootstrap/classes", 5).integers(5, size=(draws, 5))
    found = over_classes(miou(counts), seed=3, draws=draws)
    np.testing.assert_allclose([found.low, found.high], np.quantile(miou(counts).each[numbers].mean(axis=1), [0.025, 0.975]))
    assert found.over == "classes"


def test_rules_without_a_group_for_each_class_draw_the_episodes_of_the_classes() -> None:
    counts, draws = made(1), 40
    numbers = keyed_numpy(3, "segmentation/bootstrap/classes", 5).integers(5, size=(draws, 5))
    slow = []
    for row in numbers:
        chosen = np.concatenate([np.flatnonzero(counts.classes[:, 0] == c + 1) for c in row])
        slow.append(fb_iou(counts[chosen]).value)
    found = over_classes(fb_iou(counts), seed=3, draws=draws)
    np.testing.assert_allclose([found.low, found.high], np.quantile(slow, [0.025, 0.975]))


def test_more_episodes_narrow_one_interval_and_not_the_other() -> None:
    few, many = made(2, episodes=50), made(2, episodes=5000)
    widths = [[i.high - i.low for i in (over(miou(c), seed=0) for c in (few, many))] for over in (over_episodes, over_classes)]
    assert widths[0][1] < widths[0][0] / 4
    assert widths[1][1] > widths[1][0] / 2


def test_the_interval_of_a_mean_is_nearly_students() -> None:
    each = image_iou(made(4, episodes=400))
    found, spread = over_episodes(each, seed=0, draws=4000), each.above[:, 0].std() / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_a_difference_is_narrower_than_two_intervals() -> None:
    better, worse = made(5, skill=0.05), made(5)
    found = difference(better, worse, seed=0)
    alone = over_episodes(miou(worse), seed=0)
    assert found.interval.value == miou(better).value - miou(worse).value > 0
    assert found.interval.high - found.interval.low < (alone.high - alone.low) / 2
    assert found.interval.low > 0
    assert found.p == pytest.approx(2 / 1001)
    assert (found.tally.losses, sum(vars(found.tally).values())) == (0, 60)
    assert difference(worse, better, seed=0).interval.value == -found.interval.value
    assert difference(worse, worse, over="classes", seed=0).p == 1


def test_draws_that_do_not_fit_into_memory_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = over_episodes(miou(made(6)), seed=0, draws=50)
    monkeypatch.setattr("kinshot.core.statistics.bootstrap._AT_ONCE", 60 * 7)
    assert over_episodes(miou(made(6)), seed=0, draws=50) == whole
    assert over_episodes(miou(made(6)), seed=1, draws=50) != whole


def test_what_was_drawn_once_has_no_interval() -> None:
    with pytest.raises(DataError, match="over classes needs at least two"):
        over_classes(miou(made(0, classes=1)), seed=0)
    with pytest.raises(DataError, match="over episodes needs at least two"):
        over_episodes(miou(made(0, episodes=1)), seed=0)
    for other in (made(1), made(0, episodes=59)):
        with pytest.raises(DataError, match="same episodes twice"):
            difference(made(0), other, seed=0)


def test_the_class_blind_rules_see_things_and_no_class() -> None:
    masks = torch.tensor([[[0, 1, 2], [3, 255, 0]]])
    found = class_blind(masks)
    assert tuple(found) == CLASS_BLIND
    assert found[ALL_FOREGROUND].tolist() == [[[1, 1, 1], [1, 1, 1]]]
    assert found[SALIENCY].tolist() == [[[0, 1, 1], [1, 0, 0]]]


def test_perfect_saliency_is_right_where_one_thing_is_in_the_image() -> None:
    masks = torch.tensor([[[0, 2, 2], [0, 0, 0]], [[0, 2, 2], [1, 0, 0]]])
    truth = (masks == 2).long()
    alone, beside = ([RULES["miou"](counted(m[None, None], t[None, None], np.array([[2]]))).value for m, t in
                      zip(class_blind(masks)[rule], truth, strict=True)] for rule in (SALIENCY, ALL_FOREGROUND))  # fmt: skip
    assert alone == pytest.approx([1, 2 / 3])
    assert beside == pytest.approx([1 / 3, 1 / 3])
