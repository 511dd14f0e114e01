"""Verification of pairs against loops over thresholds and over pairs of pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.verification import auc, eer, roc, tar_at_far


def pairs(ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    same = rng.random(60) < 0.4
    scores = rng.normal(size=60) + 1.2 * same
    return np.round(scores, 0 if ties else 6), same


def rates(scores: np.ndarray, same: np.ndarray, threshold: float) -> tuple[float, float]:
    accepted = [score >= threshold for score in scores]
    kin = [a for a, s in zip(accepted, same, strict=True) if s]
    strangers = [a for a, s in zip(accepted, same, strict=True) if not s]
    return sum(strangers) / len(strangers), sum(kin) / len(kin)


@pytest.mark.parametrize("ties", [False, True])
def test_rates_are_those_of_every_threshold(ties: bool) -> None:
    scores, same = pairs(ties)
    curve = roc(scores, same)
    assert (curve.far[0], curve.tar[0], curve.far[-1], curve.tar[-1]) == (0, 0, 1, 1)
    assert len(curve.far) == len(set(scores)) + 1
    for far, tar, threshold in zip(curve.far, curve.tar, curve.threshold, strict=True):
        assert (far, tar) == pytest.approx(rates(scores, same, threshold))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("far", [0.0, 0.05, 0.2, 1.0])
def test_tar_at_far_is_the_best_threshold_that_is_allowed(far: float, ties: bool) -> None:
    scores, same = pairs(ties)
    allowed = [tar for got, tar in (rates(scores, same, t) for t in [*scores, np.inf]) if got <= far]
    assert tar_at_far(scores, same, far) == pytest.approx(max(allowed))


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_that_of_all_pairs_of_pairs(ties: bool) -> None:
    scores, same = pairs(ties)
    won = [(k > s) + 0.5 * (k == s) for k in scores[same] for s in scores[~same]]
    assert auc(scores, same) == pytest.approx(np.mean(won))


@pytest.mark.parametrize("ties", [False, True])
def test_equal_errors_are_between_the_thresholds_where_they_cross(ties: bool) -> None:
    scores, same = pairs(ties)
    found = eer(scores, same)
    points = sorted(rates(scores, same, t) for t in {*scores, np.inf})
    crossing = [(a, b) for a, b in pairwise(points) if a[0] <= found <= b[0] and 1 - b[1] <= found <= 1 - a[1]]
    assert crossing
    (far_a, tar_a), (far_b, tar_b) = crossing[0]
    if far_b > far_a and tar_b > tar_a:  # on the line between both
        assert (found - far_a) / (far_b - far_a) == pytest.approx((1 - tar_a - found) / (tar_b - tar_a))


def test_pairs_told_apart_are_perfect_and_the_order_of_equal_ones_does_not_matter() -> None:
    same = np.array([True, False, True, False])
    assert (auc(same * 1.0, same), eer(same * 1.0, same), tar_at_far(same * 1.0, same, 0)) == (1, 0, 1)
    assert (auc(1.0 * ~same, same), eer(1.0 * ~same, same)) == (0, 1)
    level = np.zeros(4)
    assert (auc(level, same), eer(level, same), tar_at_far(level, same, 0.5)) == (0.5, 0.5, 0)
    scores, order = np.array([1.0, 1, 2, 0, 1, 2]), np.array([3, 5, 0, 2, 1, 4])
    kin = np.array([True, False, True, False, False, True])
    for of in (auc, eer, tar_at_far):
        assert of(scores, kin) == of(scores[order], kin[order])


def test_what_cannot_be_verified_is_refused() -> None:
    with pytest.raises(DataError, match="pairs of kin and of strangers, got 2 and 0"):
        auc(np.ones(2), np.ones(2, dtype=bool))
    with pytest.raises(DataError, match="score of pair 1 is not finite"):
        eer(np.array([1.0, np.nan]), np.array([True, False]))
    with pytest.raises(DataError, match="one score and one answer a pair"):
        roc(np.ones((2, 2)), np.ones(2, dtype=bool))
    with pytest.raises(ConfigError, match="far: expected a share from 0 to 1, got 2"):
        tar_at_far(np.ones(2), np.array([True, False]), 2)
