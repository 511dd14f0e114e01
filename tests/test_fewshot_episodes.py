"""Episode sampling: uniform, without replacement, keyed by seed and episode number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import episodes as module
from kinshot.fewshot.episodes import Episodes, sample_episodes


def _labels(counts: list[int], seed: int = 0, first: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(first, first + len(counts)), counts))


def _fields(episodes: Episodes) -> list[torch.Tensor]:
    return [getattr(episodes, f.name) for f in dataclasses.fields(episodes)]


def _chi_square_is_plausible(observed: np.ndarray, expected: float) -> bool:
    statistic = ((observed - expected) ** 2 / expected).sum()
    return chi2.ppf(1e-4, observed.size - 1) < statistic < chi2.ppf(1 - 1e-4, observed.size - 1)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(5, 12), min_size=3, max_size=8),
    ways=st.integers(2, 3),
    shots=st.integers(1, 3),
    queries=st.integers(1, 2),
    seed=st.integers(0, 2**32),
    first=st.integers(-3, 100),
)
def test_every_episode_is_well_formed(counts, ways, shots, queries, seed, first):
    labels = _labels(counts, first=first)
    drawn = sample_episodes(labels, ways=ways, shots=shots, queries=queries, episodes=4, seed=seed)
    assert all(t.dtype == torch.int64 for t in _fields(drawn))
    assert (len(drawn), drawn.ways) == (4, ways)
    assert drawn.support.shape == (4, ways * shots)
    assert drawn.query.shape == (4, ways * queries)
    for e in range(4):
        classes = drawn.classes[e].tolist()
        assert len(set(classes)) == ways
        used = drawn.support[e].tolist() + drawn.query[e].tolist()
        assert len(set(used)) == len(used), "an image occurs twice"
        for images, ways_of in ((drawn.support[e], drawn.support_labels[e]), (drawn.query[e], drawn.query_labels[e])):
            assert labels[images.numpy()].tolist() == [classes[w] for w in ways_of.tolist()]
        assert np.bincount(drawn.support_labels[e]).tolist() == [shots] * ways
        assert np.bincount(drawn.query_labels[e]).tolist() == [queries] * ways


def test_more_episodes_begin_with_the_same_ones(monkeypatch):
    labels = _labels([9, 7, 8, 12])
    common = {"ways": 3, "shots": 2, "queries": 3, "seed": 5}
    few, many = sample_episodes(labels, episodes=6, **common), sample_episodes(labels, episodes=20, **common)
    for a, b in zip(_fields(few), _fields(many), strict=True):
        assert torch.equal(a, b[:6])
    monkeypatch.setattr(module, "_CHUNK", 50)  # several chunks give the same as one
    for a, b in zip(_fields(sample_episodes(labels, episodes=20, **common)), _fields(many), strict=True):
        assert torch.equal(a, b)


def test_support_is_kept_when_queries_or_shots_grow():
    labels = _labels([20] * 6)
    common = {"ways": 3, "episodes": 10, "seed": 1}
    one = sample_episodes(labels, shots=1, queries=2, **common)
    more = sample_episodes(labels, shots=1, queries=9, **common)
    five = sample_episodes(labels, shots=5, queries=9, **common)
    assert torch.equal(one.support, more.support)
    assert torch.equal(one.support, five.support.view(10, 3, 5)[:, :, 0])


def test_the_seed_and_the_episode_change_the_draw():
    labels = _labels([20] * 6)
    a, b = (sample_episodes(labels, ways=3, shots=2, queries=3, episodes=5, seed=s) for s in (0, 1))
    assert not torch.equal(a.support, b.support)
    assert len({tuple(row) for row in a.support.tolist()}) == 5


def test_class_choice_is_uniform():
    labels = _labels([4, 40, 4, 7, 5])  # a large class must not be drawn more often
    drawn = sample_episodes(labels, ways=2, shots=1, queries=1, episodes=20_000, seed=3)
    pairs = np.zeros((5, 5), dtype=int)
    np.add.at(pairs, tuple(drawn.classes.numpy().T), 1)
    off_diagonal = pairs[~np.eye(5, dtype=bool)]
    assert off_diagonal.sum() == 20_000
    assert _chi_square_is_plausible(off_diagonal, 20_000 / 20)


def test_image_choice_is_uniform_over_ordered_draws():
    labels = _labels([4, 4])
    drawn = sample_episodes(labels, ways=2, shots=2, queries=1, episodes=24_000, seed=4)
    where = drawn.classes == 0
    images = torch.cat([drawn.support.view(-1, 2, 2), drawn.query.view(-1, 2, 1)], dim=2)[where]
    members = np.flatnonzero(labels == 0)
    code = np.searchsorted(members, images.numpy()) @ np.array([16, 4, 1])
    observed = np.unique(code, return_counts=True)[1]
    assert observed.size == 24  # every ordered choice of 3 out of 4
    assert _chi_square_is_plausible(observed, 1000)


def test_a_class_can_be_used_up():
    drawn = sample_episodes(_labels([4, 4]), ways=2, shots=1, queries=3, episodes=50, seed=0)
    assert (torch.cat([drawn.support, drawn.query], 1).sort(1).values == torch.arange(8)).all()


def test_too_few_classes():
    with pytest.raises(DataError, match="5-way episodes need 5 classes, got 3"):
        sample_episodes(_labels([9, 9, 9]), ways=5, shots=1, queries=1, episodes=1, seed=0)


def test_a_class_with_too_few_images_is_named_and_not_dropped():
    labels = _labels([30, 4, 30, 2, 30])
    common = {"ways": 2, "episodes": 1, "seed": 0, "class_names": ["ant", "bee", "cat", "dog", "elk"]}
    expected = r"class 1 \('bee'\) has 4 images, an episode needs 16 \(1 shots \+ 15 queries\), and 1 more"
    with pytest.raises(DataError, match=expected) as found:
        sample_episodes(labels, shots=1, queries=15, **common)
    assert "lower queries to at most 1" in str(found.value)
    sample_episodes(labels, shots=1, queries=1, **common)  # the advice works
    with pytest.raises(DataError, match="lower shots and queries"):
        sample_episodes(labels, shots=2, queries=1, **common)


@pytest.mark.parametrize("bad", [{"ways": 1}, {"shots": 0}, {"queries": 0}, {"episodes": 0}])
def test_numbers_below_their_minimum(bad):
    numbers = {"ways": 2, "shots": 1, "queries": 1, "episodes": 1} | bad
    with pytest.raises(ConfigError, match=next(iter(bad))):
        sample_episodes(_labels([9, 9]), seed=0, **numbers)


@pytest.mark.parametrize("labels", [np.zeros((4, 2), dtype=int), np.zeros(4)])
def test_labels_of_another_form(labels):
    with pytest.raises(DataError, match="one integer label per image"):
        sample_episodes(labels, ways=2, shots=1, queries=1, episodes=1, seed=0)


def test_overlap_of_support_and_query_is_refused():
    way = torch.tensor([[0, 1], [0, 1]])
    with pytest.raises(DataError, match="episode 1 uses an image twice"):
        Episodes(torch.tensor([[0, 1], [2, 3]]), way, torch.tensor([[4, 5], [6, 2]]), way, way)
    with pytest.raises(DataError, match="do not fit together"):
        Episodes(torch.tensor([[0, 1], [2, 3]]), way, torch.tensor([[4, 5]]), way[:1], way)
