"""Keyed randomness: a draw depends on its key alone, and the draws are uniform."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core.rng import keyed_generator, keyed_seed, keyed_uniform

INDICES = st.lists(st.integers(0, 2**40), min_size=1, max_size=40)


@given(st.integers(0, 2**40), st.integers(0, 500), INDICES, st.integers(1, 9))
def test_draws_depend_on_the_sample_alone(seed: int, epoch: int, indices: list[int], draws: int) -> None:
    whole = keyed_uniform(seed, "views", epoch, np.array(indices), draws)
    assert whole.shape == (len(indices), draws)
    assert whole.dtype == np.float32
    assert ((whole >= 0) & (whole < 1)).all()
    order = np.random.default_rng(seed).permutation(len(indices))
    assert np.array_equal(keyed_uniform(seed, "views", epoch, np.array(indices)[order], draws), whole[order])
    for row, index in enumerate(indices):
        assert np.array_equal(keyed_uniform(seed, "views", epoch, np.array([index]), draws)[0], whole[row])
    assert np.array_equal(keyed_uniform(seed, "views", epoch, np.array(indices), draws + 3)[:, :draws], whole)


def test_draws_change_with_seed_purpose_epoch_and_sample() -> None:
    base = keyed_uniform(0, "views", 0, np.arange(50), 4)
    for other in (keyed_uniform(1, "views", 0, np.arange(50), 4), keyed_uniform(0, "order", 0, np.arange(50), 4)):
        assert not (base == other).any()
    assert not (base == keyed_uniform(0, "views", 1, np.arange(50), 4)).any()
    assert not (base == keyed_uniform(0, "views", 0, np.arange(50) + 50, 4)).any()


def test_draws_are_uniform_and_independent() -> None:
    u = keyed_uniform(7, "test", 3, np.arange(20000), 6).astype(np.float64)
    counts = np.stack([np.histogram(column, bins=64, range=(0, 1))[0] for column in u.T])
    chi_squared = ((counts - 20000 / 64) ** 2 / (20000 / 64)).sum(1)
    assert (np.abs(chi_squared - 63) < 5 * math.sqrt(2 * 63)).all()
    correlation = np.corrcoef(np.concatenate([u.T, np.roll(u, 1, axis=0).T, np.roll(u, 64, axis=0).T]))
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / math.sqrt(20000)
    neighbours = [keyed_uniform(s, "test", e, np.arange(20000), 1)[:, 0] for s in (0, 1, 2) for e in (0, 1)]
    assert np.abs(np.corrcoef(neighbours) - np.eye(6)).max() < 5 / math.sqrt(20000)


def test_recorded_draws_stay_as_they_are() -> None:
    # changing these numbers changes every run that anybody has made
    assert keyed_seed(0, "order", 3) == 6785618111695557324
    assert keyed_uniform(0, "views", 1, np.array([0, 5]), 2).tolist() == [
        [0.7453478574752808, 0.9593200087547302],
        [0.7280336022377014, 0.43353623151779175],
    ]


def test_generators_are_keyed() -> None:
    a, b = (torch.rand(5, generator=keyed_generator(0, "init", n)) for n in (1, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, torch.rand(5, generator=keyed_generator(0, "init", 2)))
    assert 0 <= keyed_seed(-1, "x", 2**70) < 2**63
