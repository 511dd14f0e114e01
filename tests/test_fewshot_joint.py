"""Draws, held-out images and answers in the joint label space, against slow references on the whole scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot.generalized import calibration_sweep, generalized_accuracy
from kinshot.fewshot.joint import KEPT, TEST, VALIDATION, Best, answers, best_of, hold_out, mean_sweep, novel_draws

LABELS = np.repeat([4, 1, 9], [6, 7, 8])


@pytest.mark.parametrize("ways", [0, 2])
def test_novel_draws_nest_and_ask_everything_else(ways):
    drawn = novel_draws(LABELS, ways=ways, most=3, draws=5, seed=1)
    assert len(drawn) == 5
    for draw in drawn:
        classes = LABELS[draw.exemplars[:, 0]]
        assert draw.exemplars.shape == (ways or 3, 3)
        assert all((LABELS[row] == c).all() for row, c in zip(draw.exemplars, classes, strict=True))
        assert len(set(draw.exemplars.ravel())) == draw.exemplars.size
        assert sorted([*draw.exemplars.ravel(), *draw.query]) == sorted(np.flatnonzero(np.isin(LABELS, classes)))
        assert np.array_equal(classes[draw.query_ways], LABELS[draw.query])
        images, way = draw.support(2)
        assert np.array_equal(images.reshape(-1, 2), draw.exemplars[:, :2])
        assert np.array_equal(classes[way.numpy()], LABELS[images])
    fewer = novel_draws(LABELS, ways=ways, most=2, draws=5, seed=1)
    assert all(np.array_equal(a.exemplars, b.exemplars[:, :2]) for a, b in zip(fewer, drawn, strict=True))
    assert not np.array_equal(drawn[0].exemplars, drawn[1].exemplars)
    if ways == 0:
        assert np.array_equal(LABELS[drawn[0].exemplars[:, 0]], [1, 4, 9])


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"most": 6}, DataError, "has 6 images, an episode needs 7"),
        ({"ways": 4}, DataError, "4 classes, got 3"),
        ({"draws": 0}, ConfigError, "draws"),
    ],
)
def test_novel_draws_say_what_is_missing(changed, error, words):
    with pytest.raises(error, match=words):
        novel_draws(LABELS, **{"ways": 0, "most": 2, "draws": 2, "seed": 0, **changed})


def test_hold_out_takes_shares_of_every_class():
    labels = np.random.default_rng(0).permutation(np.repeat([3, 0, 5], [20, 10, 3]))
    parts = hold_out(labels, test=0.2, validation=0.1, seed=4)
    counted = {c: [int(((labels == c) & (parts == p)).sum()) for p in (KEPT, VALIDATION, TEST)] for c in (0, 3, 5)}
    assert counted == {0: [7, 1, 2], 3: [14, 2, 4], 5: [1, 1, 1]}
    assert np.array_equal(parts, hold_out(labels, test=0.2, validation=0.1, seed=4))
    assert not np.array_equal(parts, hold_out(labels, test=0.2, validation=0.1, seed=5))
    larger = hold_out(labels, test=0.4, validation=0.1, seed=4)
    assert (larger[parts == TEST] == TEST).all()
    assert not (hold_out(labels, test=0.0, validation=0.1, seed=4) == TEST).any()
    with pytest.raises(DataError, match="class 5 has 3 images, holding some out needs 4"):
        hold_out(labels, test=0.6, validation=0.1, seed=4)
    with pytest.raises(ConfigError, match="below 1"):
        hold_out(labels, test=0.6, validation=0.4, seed=4)


def whole(seed, base=5, novel=4, count=30, ties=True):
    """Scores of images of both kinds with ties, and the answers made from their halves."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(count, base + novel)).round(1 if ties else 12)
    labels = rng.permutation(np.arange(count) % (base + novel))
    labels = np.sort(labels)
    seen = labels < base
    halves = [torch.from_numpy(scores[rows]) for rows in (seen, ~seen)]

    def best(half):
        found = half.max(dim=1)
        return Best(found.values.numpy(), found.indices.numpy())

    made = answers(
        (best(halves[0][:, :base]), best(halves[0][:, base:]), labels[seen]),
        (best(halves[1][:, :base]), best(halves[1][:, base:]), labels[~seen] - base),
    )
    return scores, labels, np.arange(base + novel) < base, made


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, -0.7, 5.0]), st.booleans())
def test_answers_give_the_measures_of_the_whole_scores(seed, offset, ties):
    scores, labels, is_base, made = whole(seed, ties=ties)
    assert made.accuracy(offset) == generalized_accuracy(scores, labels, is_base, offset=offset)
    sweep, expected = made.sweep(), calibration_sweep(scores, labels, is_base)
    for name in ("break_points", "base", "novel"):
        np.testing.assert_allclose(getattr(sweep, name), getattr(expected, name), atol=1e-12)


def test_the_mean_sweep_is_the_mean_at_every_offset():
    sweeps = [whole(seed)[3].sweep() for seed in range(4)]
    mean = mean_sweep(sweeps)
    made = [whole(seed)[3] for seed in range(4)]
    for k in range(0, len(mean.base), 5):
        found = [one.accuracy(mean.offsets[k]) for one in made]
        assert mean.base[k] == pytest.approx(np.mean([g.base for g in found]))
        assert mean.novel[k] == pytest.approx(np.mean([g.novel for g in found]))
    assert mean.base[0] == pytest.approx(np.mean([s.base[0] for s in sweeps]))
    assert mean.novel[-1] == pytest.approx(np.mean([s.novel[-1] for s in sweeps]))
    with pytest.raises(DataError, match="no sweeps"):
        mean_sweep([])


def test_best_of_takes_the_first_of_equal_classes_and_refuses_what_is_not_finite():
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(5000, 3)))
    rows = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    found = best_of(features, rows, lambda z, w: z @ w.T)
    assert np.array_equal(found.column, (features @ rows.T).numpy().argmax(1))
    assert set(found.column) == {0, 1}
    with pytest.raises(DataError, match="image 4999"):
        best_of(torch.cat([features[:4999], torch.full((1, 3), torch.nan, dtype=torch.float64)]), rows, lambda z, w: z @ w.T)
