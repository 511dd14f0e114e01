"""The greedy k-center against loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.kin.k_center import greedy_k_center


def points(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(d: np.ndarray, count: int, first: int, among: list[int], reached: list[float] | None, bonus: list[float]) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < count:
        left = [i for i in among if i not in chosen]
        if not left:
            return chosen + [-1] * (count - len(chosen))
        if not chosen and reached is None:
            chosen.append(first)
            continue

        def far(i: int) -> float:
            return min([d[i, c] for c in chosen] + ([reached[i]] if reached else [])) + bonus[i]

        chosen.append(max(left, key=far))
    return chosen


@pytest.mark.parametrize("seed", range(4))
def test_what_is_chosen_is_what_loops_choose(seed: int) -> None:
    z = points(3, 7, 2, seed=seed)
    d = torch.cdist(z, z)
    first, among = torch.tensor([2, 5, 0]), torch.ones(3, 7, dtype=torch.bool)
    among[1, :4] = False
    bonus = points(3, 7, seed=seed + 9)
    reached = points(3, 7, seed=seed + 5).abs()
    for given in (None, reached):
        got = greedy_k_center(d, 4, first=None if given is not None else first, reached=given, among=among, bonus=bonus)
        for k in range(3):
            start = None if given is None else given[k].tolist()
            kept = among[k].nonzero().flatten().tolist()
            assert got[k].tolist() == by_loops(d[k].numpy(), 4, int(first[k]), kept, start, bonus[k].tolist())


def test_without_a_start_the_bonus_begins() -> None:
    d = torch.cdist(points(5, 2), points(5, 2))
    assert greedy_k_center(d, 1, bonus=torch.tensor([0.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [2]
    assert greedy_k_center(d, 1).tolist() == [0]


def test_the_radius_is_at_most_twice_the_best() -> None:
    z = points(9, 2, seed=3)
    d = torch.cdist(z, z)
    radius = float(d[:, greedy_k_center(d, 3)].amin(1).max())
    best = min(float(d[:, list(some)].amin(1).max()) for some in itertools.combinations(range(9), 3))
    assert best <= radius <= 2 * best


def test_one_matrix_may_be_viewed_by_many_and_nothing_is_changed() -> None:
    z = points(6, 2)
    d = torch.cdist(z, z)
    before = d.clone()
    among = torch.eye(6, dtype=torch.bool).logical_not()
    got = greedy_k_center(d.expand(6, 6, 6), 2, first=torch.arange(6).roll(1), among=among)
    assert torch.equal(d, before)
    for k in range(6):
        assert k not in got[k].tolist()
    assert greedy_k_center(d, 0).shape == (0,)
    assert greedy_k_center(torch.zeros(0, 0), 2).tolist() == [-1, -1]


def test_what_is_no_matrix_of_distances_is_refused() -> None:
    with pytest.raises(ConfigError, match="count"):
        greedy_k_center(torch.zeros(2, 2), -1)
    with pytest.raises(ConfigError, match="distances"):
        greedy_k_center(torch.zeros(2, 3), 1)
