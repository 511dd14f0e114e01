"""Intervals whose error has several parts: crossed checkpoints and episodes, classes; coverage by simulation; Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core.errors import DataError
from kinshot.core.rng import keyed_numpy
from kinshot.core.statistics import interval, paired_test
from kinshot.core.variance import Part, columns_part, crossed, estimate, half_width, holm, p_value
from kinshot.fewshot.class_spread import classes_part, memberships
from kinshot.fewshot.protocols import variable_episodes


def test_one_checkpoint_has_students_interval_and_p():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 2, (2, 30))
    found, alone = crossed(a - b), paired_test(a, b)
    assert (found.mean, found.half_width, found.p) == pytest.approx((alone.difference.mean, alone.difference.half_width, alone.p))
    assert interval(a).half_width == pytest.approx(crossed(a).half_width)


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
    with pytest.raises(DataError, match="at least 2 episodes"):
        crossed(np.ones((3, 1)))
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
        alone += abs(found.mean) <= interval(values.mean(1)).half_width
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
        over = [estimate(float(accuracy.mean()), parts) for parts in ([part], [part, classes_part(accuracy, played)])]
        alone, held = (n + (abs(o.mean - truth) <= o.half_width) for n, o in zip((alone, held), over, strict=True))
    assert held / count >= 0.86
    assert alone / count < 0.6


# ------------------------------------------------------------------------------------------------------------ several tests


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
