"""Dense episodes: what they are made of, what they depend on, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DataError
from kinshot.segmentation.episode_checks import check_episodes, problems
from kinshot.segmentation.episodes import DenseEpisodes, sample_dense_episodes, short_of

PARTS = ("classes", "support", "query", "target")


def made(images: int = 60, classes: int = 6, photos: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images that hold one class each at least, two of a photograph."""
    random = np.random.default_rng(seed)
    contains = random.random((images, classes)) < 0.3
    contains[np.arange(images), np.arange(images) % classes] = True
    return contains, np.arange(images) % photos


def same(a: DenseEpisodes, b: DenseEpisodes) -> bool:
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in PARTS)


@settings(max_examples=40, deadline=None)
@given(ways=st.integers(1, 3), shots=st.integers(1, 3), queries=st.integers(1, 4), seed=st.integers(0, 1000))
def test_every_episode_keeps_the_rules(ways, shots, queries, seed):
    contains, photos = made(seed=seed)
    found = sample_dense_episodes(contains, photos, ways=ways, shots=shots, queries=queries, episodes=50, seed=seed)
    assert problems(found, contains, photos) == []
    for e in range(len(found)):  # the rules once more, slowly
        held = {int(photos[i]) for i in found.support[e].ravel()}
        asked = [int(photos[i]) for i in found.query[e]]
        assert not held & set(asked)
        assert len(set(asked)) == queries
        assert len(set(found.classes[e].tolist())) == ways
        for w in range(ways):
            assert contains[found.support[e, w], found.classes[e, w] - 1].all()
            assert len({int(photos[i]) for i in found.support[e, w]}) == shots
        assert [contains[i, found.classes[e, t] - 1] for i, t in zip(found.query[e], found.target[e], strict=True)] == [True] * queries
        turns = np.bincount(found.target[e], minlength=ways)
        assert turns.max() - turns.min() <= 1


def test_an_episode_depends_on_seed_and_number_alone():
    contains, photos = made()
    draw = {"ways": 2, "shots": 1, "queries": 2, "seed": 3}
    many = sample_dense_episodes(contains, photos, episodes=40, **draw)
    assert same(many[:7], sample_dense_episodes(contains, photos, episodes=7, **draw))
    assert same(many[25:30], sample_dense_episodes(contains, photos, episodes=5, first=25, **draw))
    assert many.hash() == sample_dense_episodes(contains, photos, episodes=40, **draw).hash()
    assert many.hash() != sample_dense_episodes(contains, photos, episodes=40, **{**draw, "seed": 4}).hash()
    assert many.hash() != many[:39].hash()


def test_more_shots_leave_the_earlier_ones_alone():
    contains, photos = made()
    one, three = (sample_dense_episodes(contains, photos, ways=1, shots=k, queries=1, episodes=30, seed=1) for k in (1, 3))
    assert np.array_equal(one.support, three.support[:, :, :1])
    assert np.array_equal(one.classes, three.classes)


def test_photographs_are_drawn_uniformly_whatever_their_number_of_images():
    photos = np.array([0] * 9 + [1, 2, 3])
    contains = np.ones((12, 1), dtype=bool)
    found = sample_dense_episodes(contains, photos, ways=1, shots=1, queries=1, episodes=8000, seed=0)
    for part in (found.support, found.query):
        shares = np.bincount(photos[part.ravel()], minlength=4) / 8000
        assert np.abs(shares - 0.25).max() < 0.02
    inside = np.bincount(found.support[photos[found.support] == 0], minlength=9) / 2000
    assert np.abs(inside - 1 / 9).max() < 0.03


def test_classes_are_drawn_uniformly_and_each_way_is_asked_as_often():
    contains, photos = made()
    found = sample_dense_episodes(contains, photos, ways=2, shots=1, queries=1, episodes=6000, seed=0)
    assert np.abs(np.bincount(found.classes.ravel() - 1) / 12000 - 1 / 6).max() < 0.02
    assert abs(found.target.mean() - 0.5) < 0.03


def test_photographs_that_two_classes_share_never_stand_on_both_sides():
    """Class 1 has two photographs, and one of them is the only one of class 0 beside another: many draws meet in it."""
    contains = np.array([[1, 1], [1, 0], [0, 1]], dtype=bool)
    found = sample_dense_episodes(contains, np.arange(3), ways=2, shots=1, queries=1, episodes=200, seed=0)
    assert problems(found, contains, np.arange(3)) == []


def test_classes_that_are_only_seen_together_are_refused():
    contains = np.ones((2, 2), dtype=bool)
    with pytest.raises(DataError, match=r"episode \d+: .*seen together: lower ways, shots or queries"):
        sample_dense_episodes(contains, np.arange(2), ways=2, shots=1, queries=2, episodes=20, seed=0)


def test_a_class_with_too_few_photographs_is_named_or_left_out():
    contains = np.zeros((9, 3), dtype=bool)
    contains[:5, 0] = contains[5:7, 1] = contains[7:, 2] = True
    photos = np.array([0, 1, 2, 3, 4, 5, 5, 7, 8])  # both images of class 1 are of one photograph
    draw = {"ways": 1, "shots": 1, "queries": 1, "episodes": 50, "seed": 0, "class_names": ("cat", "dog", "cow")}
    with pytest.raises(DataError, match=r"needs 2 photographs .*1 of 3 classes have fewer: class 'dog' has 1; .*short_classes=leave_out"):
        sample_dense_episodes(contains, photos, **draw)
    found = sample_dense_episodes(contains, photos, short_classes="leave_out", **draw)
    assert set(found.classes.ravel().tolist()) == {1, 3}
    assert short_of(contains, photos, ways=1, shots=1, queries=1) == {1: 1}
    with pytest.raises(DataError, match=r"3-way episodes need 3 classes, and 2 of 3 classes have"):
        sample_dense_episodes(contains, photos, short_classes="leave_out", **{**draw, "ways": 3})
    with pytest.raises(ConfigError, match="shots must be at least 1, got 0"):
        sample_dense_episodes(contains, photos, **{**draw, "shots": 0})
    with pytest.raises(DataError, match=r"bool \(N, C\)"):
        sample_dense_episodes(contains.astype(int), photos, **draw)


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("support", [[[99]]], "has 99 in 'support', which go from 0 to 59"),
        ("classes", [[0]], "has 0 in 'classes', which go from 1 to 6"),
        ("target", [[1]], "has 1 in 'target', which go from 0 to 0"),
        ("query", [[1]], "query image 1, which does not hold its class 'a'"),
        ("support", [[[1]]], "support image 1, which does not hold its class 'a'"),
        ("query", [[30]], "asks for a photograph that its support shows"),
    ],
)
def test_given_episodes_are_checked(part, value, told):
    contains, photos = made()
    contains[:] = np.arange(60)[:, None] % 6 == np.arange(6)
    good = DenseEpisodes(*(np.array(given) for given in ([[1]], [[[0]]], [[6]], [[0]])))
    check_episodes(good, contains, photos)
    with pytest.raises(DataError, match=r"episode 0 .*\(1 of 1 episodes\)") as error:
        check_episodes(replace(good, **{part: np.array(value)}), contains, photos, ["a", "b", "c", "d", "e", "f"])
    assert told in str(error.value)


def test_repetitions_within_an_episode_are_found():
    contains, photos = np.ones((60, 6), dtype=bool), made()[1]
    twice = DenseEpisodes(np.array([[1, 1]]), np.array([[[0, 30], [1, 2]]]), np.array([[6, 6]]), np.array([[0, 1]]))
    told = problems(twice, contains, photos)
    assert [line.split("episode 0 ")[1].split(" (")[0] for line in told] == [
        "plays one class in two ways", "shows one photograph as two shots of a way", "asks for one image twice"
    ]  # fmt: skip


@pytest.mark.parametrize(("part", "value"), [("query", [[6], [6]]), ("classes", [[1.0]]), ("support", [[0]])])
def test_arrays_that_do_not_fit_together_are_refused(part, value):
    good = DenseEpisodes(*(np.array(given) for given in ([[1]], [[[0]]], [[6]], [[0]])))
    with pytest.raises(DataError, match="dense episodes"):
        replace(good, **{part: np.array(value)})
