"""Means and their intervals, of one and of several parts, with coverage by simulation; pairing, Holm's correction, extremes; the edges."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import DataError
from kinshot.core.rng import keyed_numpy
from kinshot.core.statistics.jackknife import classes_part
from kinshot.core.statistics.means import columns_part, crossed, mean_of
from kinshot.core.statistics.multiple import holm
from kinshot.core.statistics.pairing import paired_by, paired_test, tally
from kinshot.core.statistics.parts import Part, estimate, half_width, p_value, quantile
from kinshot.core.statistics.ranks import extreme_episodes
from kinshot.fewshot.groups import memberships
from kinshot.fewshot.protocols import variable_episodes


def test_one_checkpoint_has_students_interval_and_p():
    values = np.random.default_rng(0).uniform(-1, 2, size=12)
    found, reference = crossed(values), scipy.stats.ttest_1samp(values, 0)
    low, high = reference.confidence_interval(0.95)
    assert (found.mean, found.low, found.high, found.p) == pytest.approx((values.mean(), low, high, reference.pvalue), rel=1e-9)
    assert mean_of(values) == crossed(values[None]) == found
    assert quantile(11) == pytest.approx(scipy.stats.t.ppf(0.975, 11))


def test_what_was_drawn_once_has_no_part():
    assert (mean_of([3.0]).mean, mean_of([3.0]).half_width, mean_of([3.0]).parts) == (3.0, 0.0, ())
    once = mean_of([[1.0], [2.0], [6.0]])  # three checkpoints, one episode
    assert (once.mean, once.half_width) == (crossed([1.0, 2.0, 6.0]).mean, crossed([1.0, 2.0, 6.0]).half_width)
    assert [part.over for part in once.parts] == ["checkpoints"]
    assert (mean_of([2.0]).p, mean_of([0.0]).p) == (0, 1)
    for nothing in ([], np.ones((0, 3)), np.ones((2, 2, 2))):
        with pytest.raises(DataError, match="a mean needs a figure"):
            mean_of(nothing)
    with pytest.raises(DataError, match="episode 0 has a figure that is not finite"):
        mean_of([np.inf])


def test_several_checkpoints_add_their_part_to_that_of_the_episodes():
    values = np.random.default_rng(1).normal(60, 5, (3, 40)) + np.array([[0.0], [2.0], [5.0]])
    checkpoints = scipy.stats.t.ppf(0.975, 2) * values.mean(1).std(ddof=1) / 3**0.5
    episodes = scipy.stats.t.ppf(0.975, 39) * values.mean(0).std(ddof=1) / 40**0.5
    found = crossed(values)
    assert found.half_width == pytest.approx(np.hypot(checkpoints, episodes))
    assert found.half_width > max(checkpoints, episodes)


@given(mean=st.floats(-50, 50), a=st.floats(1e-6, 9), b=st.floats(1e-6, 9), freedom=st.integers(1, 5))
def test_p_is_the_level_at_which_the_interval_reaches_zero(mean, a, b, freedom):
    parts = [Part("x", a, freedom), Part("y", b, 100)]
    p = p_value(mean, parts)
    if 1e-6 < p < 1 - 1e-6:
        assert half_width(parts, 1 - p) == pytest.approx(abs(mean), rel=1e-4)
    assert p_value(0.0, parts) == 1
    assert p_value(1.0, []) == 0


def test_what_has_no_interval_is_refused():
    for once in (np.ones((3, 1)), np.ones(1), np.ones(0)):
        with pytest.raises(DataError, match="at least 2 episodes"):
            crossed(once)
    with pytest.raises(DataError, match="episode 1 has a figure that is not finite"):
        crossed(np.array([[1, 1, 1], [1, np.nan, 1]]))


@pytest.mark.parametrize(("checkpoints", "spread"), [(2, 0.3), (3, 0.0), (3, 0.3), (3, 2.0), (5, 0.3)])
def test_the_mean_of_checkpoints_on_the_same_episodes_is_covered(checkpoints, spread):
    """Over checkpoints alone 62 to 92 % of the intervals hold, because all checkpoints met the same easy or hard episodes."""
    episodes, count = 600, 400
    rng = keyed_numpy(0, "coverage", checkpoints)
    held, alone = 0, 0
    for _ in range(count):
        own = rng.normal(0, spread, (checkpoints, 1)) + rng.normal(0, 8, episodes)
        values = own + rng.normal(0, 5, (checkpoints, episodes))
        found = crossed(values)
        held += abs(found.mean) <= found.half_width
        alone += abs(found.mean) <= mean_of(values.mean(1)).half_width
    assert held / count >= 0.945
    if spread < 1:
        assert alone / count < 0.93


# ------------------------------------------------------------------------------------------------------------ classes


def confused(rng: np.random.Generator, classes: int, episodes: int, ways: int, *, queries: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies (E,) of nearest-centre answers to noisy queries of random classes, and which classes played (E, K)."""
    centres, noise = rng.normal(size=(classes, 3)), np.exp(rng.normal(-0.9, 0.5, classes))
    chosen = rng.random((episodes, classes)).argpartition(ways - 1, axis=1)[:, :ways]
    place = centres[chosen]
    asked = place[:, :, None] + noise[chosen][:, :, None, None] * rng.normal(size=(episodes, ways, queries, 3))
    answers = ((asked[:, :, :, None] - place[:, None, None]) ** 2).sum(-1).argmin(-1)
    played = np.zeros((episodes, classes), dtype=bool)
    np.put_along_axis(played, chosen, True, axis=1)
    return 100 * (answers == np.arange(ways)[:, None]).mean((1, 2)), played[:, played.any(0)]


def test_leaving_out_classes_is_the_jackknife_where_episodes_add_no_noise():
    """Over all episodes of a pool, many times over, what is left is Arvesen's jackknife of the U-statistic, by loops."""
    classes, worth = 7, np.random.default_rng(0).normal(60, 9, 7)
    pairs = [(a, b) for a in range(classes) for b in range(a)]
    played = np.zeros((len(pairs), classes), dtype=bool)
    for row, pair in enumerate(pairs):
        played[row, list(pair)] = True
    values = np.array([worth[a] * worth[b] / 60 for a, b in pairs])
    without = np.array([np.mean([v for v, pair in zip(values, pairs, strict=True) if k not in pair]) for k in range(classes)])
    expected = (classes - 1) / classes * ((without - without.mean()) ** 2).sum()
    times = 4000
    found = classes_part(np.tile(values, times), np.tile(played, (times, 1)))
    assert found.variance == pytest.approx(expected, rel=1e-3)
    assert found.freedom == classes - 1


def test_classes_are_read_off_episodes_of_several_shapes():
    labels = np.repeat(np.arange(9) * 3 + 2, 12)
    groups = variable_episodes(labels, ways=(2, 4), shots=(1, 2), queries=3, episodes=20, seed=0)
    played = memberships(groups)
    assert played.shape == (20, 9)
    for group, numbers in zip(groups.groups, groups.numbers, strict=True):
        for number, classes in zip(numbers.tolist(), group.classes.tolist(), strict=True):
            assert sorted(np.flatnonzero(played[number]) * 3 + 2) == sorted(classes)


def test_an_interval_over_classes_needs_episodes_without_each():
    with pytest.raises(DataError, match=r"fewer --ways"):
        classes_part(np.arange(20.0), np.ones((20, 5), dtype=bool))


@pytest.mark.parametrize("classes", [15, 100])
def test_other_classes_of_the_population_are_covered(classes):
    """Over episodes alone 12 and 36 % of the intervals hold for the population that the classes come from."""
    rng = keyed_numpy(0, "population", classes)
    truth = float(np.mean([confused(rng, 4000, 1000, 5)[0].mean() for _ in range(8)]))
    held, alone, count = 0, 0, 100
    for _ in range(count):
        accuracy, played = confused(rng, classes, 400, 5)
        part = columns_part(accuracy[None], "episodes")
        over = [estimate(float(accuracy.mean()), parts) for parts in (part, [*part, classes_part(accuracy, played)])]
        alone, held = (n + (abs(o.mean - truth) <= o.half_width) for n, o in zip((alone, held), over, strict=True))
    assert held / count >= 0.86
    assert alone / count < 0.6


# ------------------------------------------------------------------------------------------------------------ several tests


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


# ------------------------------------------------------------------------------------------------------------ paired tests


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 40))
def test_paired_test_is_scipys(seed, count):
    rng = np.random.default_rng(seed)
    a, b = np.round(rng.uniform(size=(2, count)), 1)
    b[0] = a[0] + 0.35  # a spread that is not 0
    got = paired_test(a, b)
    reference = scipy.stats.ttest_rel(a, b)
    assert got.p == pytest.approx(reference.pvalue, rel=1e-9)
    low, high = reference.confidence_interval(0.95)
    assert (got.difference.low, got.difference.high) == pytest.approx((low, high), rel=1e-9)
    assert (got.tally.wins, got.tally.ties, got.tally.losses) == ((a > b).sum(), (a == b).sum(), (a < b).sum())
    other = paired_test(b, a)
    assert (other.difference.mean, other.p, other.tally.wins) == pytest.approx((-got.difference.mean, got.p, got.tally.losses))


def test_paired_test_of_equal_and_of_shifted_results():
    a = np.array([0.25, 0.5, 0.75])
    same, shifted = paired_test(a, a), paired_test(a, a - 0.125)
    assert (same.p, same.difference.mean, same.tally.ties) == (1, 0, 3)
    assert (shifted.p, shifted.tally.wins, shifted.difference.half_width) == (0, 3, 0)


def test_paired_test_refuses_what_is_not_paired():
    with pytest.raises(DataError, match=r"same episodes twice, got shapes \(3,\) and \(2,\)"):
        paired_test(np.ones(3), np.ones(2))
    with pytest.raises(DataError, match="at least 2 episodes"):
        paired_test(np.ones(1), np.ones(1))
    with pytest.raises(DataError, match="episode 1 has a figure that is not finite"):
        paired_test(np.array([1, np.nan]), np.ones(2))


def test_several_checkpoints_are_paired_episode_by_episode():
    a, b = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 4.0]]), np.array([[1.0, 3.0, 1.0], [2.0, 1.0, 2.0]])
    found = paired_test(a, b)
    assert found.difference == crossed(a - b)
    assert tally(a - b) == found.tally
    assert (found.tally.wins, found.tally.ties, found.tally.losses) == (2, 1, 0)


def test_pairs_are_what_both_sides_have():
    assert paired_by({2: "a", 0: "b", 5: "c"}, {5: "z", 2: "x", 9: "y"}) == {2: ("a", "x"), 5: ("c", "z")}
    assert paired_by({0: 1}, {1: 1}) == {}


# ------------------------------------------------------------------------------------------------------------ extremes


def test_extreme_episodes():
    best, worst = extreme_episodes(np.array([0.5, 0.9, 0.1, 0.9, 0.5]), count=3)
    assert best.tolist() == [1, 3, 0]
    assert worst.tolist() == [2, 0, 4]
    assert len(extreme_episodes(np.array([0.5]), count=3)[0]) == 1
    for bad in (np.array([]), np.array([0.1, np.nan]), np.ones((2, 2))):
        with pytest.raises(DataError, match="best and worst"):
            extreme_episodes(bad)
