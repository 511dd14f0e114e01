"""What is read off the answers of a head: records, paired tests, classes, calibration, extremes, tables over domains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.statistics.means import crossed
from kinshot.core.statistics.pairing import paired_test
from kinshot.fewshot.calibration import calibration_error
from kinshot.fewshot.cross_domain import cross_domain
from kinshot.fewshot.dirichlet import dirichlet_episodes
from kinshot.fewshot.episodes import sample_episodes
from kinshot.fewshot.evaluate import build_head, episode_accuracy
from kinshot.fewshot.protocols import variable_episodes
from kinshot.fewshot.records import class_accuracy, confusion_matrix, episode_records, group_records


@pytest.fixture(scope="module")
def setting():
    generator = torch.Generator().manual_seed(0)
    labels = np.repeat(np.arange(6), 12) * 2 + 3  # 3, 5, ..., 13
    centers = torch.randn(6, 4, generator=generator)
    features = centers.repeat_interleave(12, 0) + torch.randn(72, 4, generator=generator)
    return features, labels


@pytest.fixture(scope="module")
def records(setting):
    features, labels = setting
    episodes = dirichlet_episodes(labels, ways=3, shots=2, total=8, episodes=40, seed=0, limit="redistribute")
    return episode_records(features, episodes, build_head("prototype", {"distance": "squared"}), 3)


def test_records_equal_the_accuracy_and_a_loop(setting, records):
    features, _ = setting
    head = build_head("prototype", {"distance": "squared"})
    assert np.array_equal(records.accuracy, episode_accuracy(features, records.episodes, head, 3))
    for e in (0, 17, 39):
        ep = records.episodes
        scores = head(features[ep.support[[e]]], ep.support_labels[[e]], features[ep.query[[e]]], 3)[0].double().numpy()
        odds = np.exp(scores)
        assert records.predictions[e].tolist() == scores.argmax(1).tolist()
        assert records.confidences[e] == pytest.approx((odds / odds.sum(1, keepdims=True)).max(1), rel=1e-5)
        assert records.correct[e].tolist() == [p == t for p, t in zip(scores.argmax(1), ep.query_labels[e].tolist(), strict=True)]
    assert records.confidences.dtype == np.float64
    assert records.predictions.dtype == np.int64


def test_records_do_not_depend_on_chunks(setting, records):
    features, _ = setting
    for batch in (1, 7):
        again = episode_records(features, records.episodes, build_head("prototype", {"distance": "squared"}), 3, batch=batch, threads=1)
        assert np.array_equal(again.predictions, records.predictions)


@pytest.mark.parametrize("name", ["pt_map", "laplacian_shot", "matching", "logistic"])
def test_confidences_are_the_probabilities_that_a_head_gives(setting, records, name):
    """Once: a softmax of probabilities says 0.25 to 0.6 for three ways, whatever the head said."""
    features, _ = setting
    ep = records.episodes
    found = episode_records(features, ep, build_head(name), 3)
    for e in (0, 17, 39):
        scores = build_head(name)(features[ep.support[[e]]], ep.support_labels[[e]], features[ep.query[[e]]], 3)[0].double().numpy()
        given = np.exp(scores) if name == "logistic" else scores
        assert found.confidences[e] == pytest.approx(given.max(1), rel=1e-4)
        assert given.sum(1) == pytest.approx(1, abs=1e-5)


def test_similarities_and_functions_that_say_nothing_have_no_confidences(setting, records):
    features, _ = setting
    assert episode_records(features, records.episodes, build_head("prototype"), 3).confidences is None
    assert episode_records(features, records.episodes, build_head("prototype", {"distance": "squared"}).call, 3).confidences is None


def test_records_of_groups_are_put_in_order(setting):
    features, labels = setting
    groups = variable_episodes(labels, ways=(2, 4), shots=(1, 3), queries=3, episodes=30, seed=1)
    head = build_head("nearest")
    found = group_records(features, groups, head)
    accuracy = groups.in_order([r.accuracy for r in found])
    assert accuracy.shape == (30,)
    for group, numbers, r in zip(groups.groups, groups.numbers, found, strict=True):
        assert np.array_equal(accuracy[numbers.numpy()], r.accuracy)
        assert np.array_equal(r.accuracy, episode_accuracy(features, group, head, group.ways))
    assert class_accuracy(*found).counts.sum() == sum(r.correct.size for r in found)


def test_records_refuse_what_does_not_fit(setting, records):
    features, _ = setting
    head, episodes = build_head("prototype"), records.episodes
    broken = features.clone()
    broken[17, 2] = torch.nan
    for bad, message in ((features[:30], r"rows 0\.\.29"), (features.long(), "float"), (broken, "image 17")):
        with pytest.raises(DataError, match=message):
            episode_records(bad, episodes, head, 3)
    with pytest.raises(ConfigError, match="3-way"):
        episode_records(features, episodes, head, 5)
    with pytest.raises(ConfigError, match="batch must be at least 1, got 0"):
        episode_records(features, episodes, head, 3, batch=0)
    with pytest.raises(DataError, match="NaN scores"):
        episode_records(features, episodes, lambda s, y, q, ways: torch.full((*q.shape[:2], ways), torch.nan), 3)
    with pytest.raises(DataError, match=r"scores of shape \(40, 8, 2\), expected \(40, 8, 3\)"):
        episode_records(features, episodes, lambda s, y, q, ways: torch.zeros(*q.shape[:2], 2), 3, batch=40)


def test_classes_and_confusions_equal_loops(setting, records):
    _, labels = setting
    counts: dict[tuple[int, int], int] = {}
    for e in range(len(records.episodes)):
        for i, predicted in zip(records.episodes.query[e].tolist(), records.predictions[e].tolist(), strict=True):
            pair = (int(labels[i]), int(records.episodes.classes[e, predicted]))
            counts[pair] = counts.get(pair, 0) + 1
    classes, matrix = confusion_matrix(records)
    assert classes.tolist() == [3, 5, 7, 9, 11, 13]
    assert matrix.sum() == records.correct.size
    assert {(classes[r], classes[c]): n for (r, c), n in np.ndenumerate(matrix) if n} == counts
    by_class = class_accuracy(records)
    asked = matrix.sum(1)
    assert by_class.classes.tolist() == classes[asked > 0].tolist()
    assert by_class.counts.tolist() == asked[asked > 0].tolist()
    assert by_class.accuracy == pytest.approx((matrix.diagonal() / np.maximum(asked, 1))[asked > 0])
    both = confusion_matrix(records, records)[1]
    assert np.array_equal(both, 2 * matrix)
    for function in (class_accuracy, confusion_matrix):
        with pytest.raises(DataError, match="no records"):
            function()


def test_a_class_that_was_never_asked_for_is_in_the_matrix_only(setting):
    features, labels = setting
    for seed in range(50):
        episodes = dirichlet_episodes(labels, ways=2, shots=1, total=2, episodes=1, seed=seed)
        if len(episodes.query_labels.unique()) == 1:
            break
    found = episode_records(features, episodes, build_head("prototype"), 2)
    assert len(class_accuracy(found).classes) == 1
    assert confusion_matrix(found)[1].shape == (2, 2)


# ------------------------------------------------------------------------------------------------------------ calibration


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), bins=st.integers(1, 12), grid=st.booleans())
def test_calibration_error_equals_a_loop(seed, bins, grid):
    rng = np.random.default_rng(seed)
    confidences = rng.integers(0, 11, 40) / 10 if grid else rng.uniform(size=40)
    correct = rng.uniform(size=40) < confidences**2
    got = calibration_error(confidences, correct, bins=bins)
    edges = np.linspace(0, 1, bins + 1)
    expected = 0.0
    for b in range(bins):
        inside = [(low := edges[b]) < c <= edges[b + 1] or (b == 0 and c == low) for c in confidences]
        if any(inside):
            expected += sum(inside) / 40 * abs(correct[inside].mean() - confidences[inside].mean())
        assert got.counts[b] == sum(inside)
    assert got.error == pytest.approx(expected, abs=1e-12)
    assert got.counts.sum() == 40
    order = rng.permutation(40)
    assert calibration_error(confidences[order], correct[order], bins=bins).error == pytest.approx(got.error)


def test_calibration_of_honest_and_of_boastful_answers():
    confidences, correct = np.full((10, 10), 0.75), np.arange(100).reshape(10, 10) < 75
    assert calibration_error(confidences, correct).error == pytest.approx(0)
    assert calibration_error(np.ones(100), correct.ravel()).error == pytest.approx(0.25)
    got = calibration_error(np.array([0.05, 0.95]), np.array([True, False]), bins=2)
    assert got.error == pytest.approx(0.95)
    assert "2 bins of equal width" in got.rule


def test_calibration_bins_of_equal_mass():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.9, 1, 100)
    got = calibration_error(confidences, rng.uniform(size=100) < 0.5, bins=4, binning="mass")
    assert got.counts.tolist() == [25] * 4
    assert got.edges[[0, -1]].tolist() == [confidences.min(), confidences.max()]
    one = calibration_error(np.full(8, 0.5), np.ones(8, dtype=bool), bins=4, binning="mass")
    assert (one.counts.tolist(), one.error) == ([8], 0.5)


def test_calibration_refuses_what_it_cannot_bin():
    right = np.ones(3, dtype=bool)
    with pytest.raises(DataError, match="got 2 confidences and 3 answers"):
        calibration_error(np.ones(2), right)
    with pytest.raises(DataError, match="got 0 confidences and 0 answers"):
        calibration_error(np.ones(0), right[:0])
    for bad in (np.nan, 1.5, -0.1):
        with pytest.raises(DataError, match="confidence 1 is"):
            calibration_error(np.array([0.5, bad, 0.5]), right)
    with pytest.raises(DataError, match="answers of float64"):
        calibration_error(np.ones(3), np.ones(3))
    for bad_settings in ({"bins": 0}, {"binning": "depth"}):
        with pytest.raises(ConfigError, match="bins must be at least 1 and binning width or mass"):
            calibration_error(np.ones(3), right, **bad_settings)


# ------------------------------------------------------------------------------------------------------------ domains


def test_cross_domain_puts_home_results_on_the_diagonal():
    results = {("glyphs", "shop"): 0.4, ("glyphs", "glyphs"): 0.9, ("shop", "glyphs"): 0.3, ("glyphs", "birds"): 0.2, ("shop", "shop"): 0.8}
    found = cross_domain(results)
    assert found.trained == ["glyphs", "shop"]
    assert found.evaluated == ["glyphs", "shop", "birds"]
    assert found.cells == [[0.9, 0.4, 0.2], [0.3, 0.8, None]]
    home = cross_domain({("a", "b"): crossed(np.array([0.1, 0.2]))})
    assert (home.trained, home.evaluated, home.cells[0][0].mean) == (["a"], ["b"], pytest.approx(0.15))
    with pytest.raises(DataError, match="no results"):
        cross_domain({})


@settings(max_examples=15, deadline=None)
@given(pairs=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcdef")), min_size=1, unique=True))
def test_cross_domain_loses_and_invents_nothing(pairs):
    found = cross_domain({pair: pair for pair in pairs})
    cells = {(t, e): c for t, row in zip(found.trained, found.cells, strict=True) for e, c in zip(found.evaluated, row, strict=True)}
    assert {place for place, c in cells.items() if c is not None} == set(pairs)
    assert all(c is None or c == place for place, c in cells.items())


def test_two_heads_on_the_same_episodes(setting):
    features, labels = setting
    episodes = sample_episodes(labels, ways=3, shots=2, queries=5, episodes=60, seed=0)
    noisy = features + 3 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    good, bad = (episode_records(x, episodes, build_head("prototype"), 3) for x in (features, noisy))
    found = paired_test(good.accuracy, bad.accuracy)
    assert found.difference.mean > 0
    assert found.p < 1e-3
    assert found.tally.wins > found.tally.losses
