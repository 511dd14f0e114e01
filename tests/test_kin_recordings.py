"""Relations of windows of recordings against loops, and cross-modal InfoNCE over them against the formula, modality by modality."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.recordings import across_modalities, neighborhood, windows
from kinshot.objectives.info_nce import info_nce
from kinshot.objectives.temporal.cmc import cmc
from kinshot.objectives.temporal.modality_pairs import over_pairs, shared_pairs
from kinshot.objectives.vicreg import vicreg
from tests import reference_temporal as slow

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None)


def drawn(seed, count=8):
    """Recording, start and length of windows, and which of three modalities they have."""
    random = np.random.default_rng(seed)
    recording, start = random.integers(0, 2, count), random.integers(0, 8, count) * 0.64
    return recording, start, random.choice([1.28, 2.56], count), random.random((3, count)) < 0.7


def rows(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@few
@given(seeds)
def test_windows_equal_loops(seed):
    recording, start, length, _ = drawn(seed)
    positive, negative = windows(torch.from_numpy(recording), torch.from_numpy(start), torch.from_numpy(length)).validate().dense()
    for i in range(8):
        for j in range(8):
            instant = recording[i] == recording[j] and start[i] == start[j] and length[i] == length[j]
            assert positive[i, j] == (i != j and instant)
            ends = [round(100 * (start[k] + length[k])) for k in (i, j)]  # whole numbers: no rounding at the border
            begins = [round(100 * start[k]) for k in (i, j)]
            apart = recording[i] != recording[j] or begins[0] >= ends[1] or begins[1] >= ends[0]
            assert negative[i, j] == apart


def test_windows_that_only_touch_are_told_apart_however_their_start_was_summed():
    start = torch.cumsum(torch.full((20,), 0.1, dtype=torch.float32), 0)
    negative = windows(torch.zeros(20, dtype=torch.int64), start, 0.1).dense()[1]
    assert torch.equal(negative, 1 - torch.eye(20))


def test_windows_of_unknown_place_are_neither():
    relation = windows(torch.tensor([0, -1, 0, 1]), torch.tensor([0.0, 9.0, math.nan, 0.0]), 1.0)
    assert [part.tolist() for part in relation.dense()] == [[[0] * 4] * 4, [[0, 0, 0, 1], [0] * 4, [0] * 4, [1, 0, 0, 0]]]


@few
@given(seeds, st.booleans())
def test_neighborhood_equals_loops(seed, others):
    recording, start, _, _ = drawn(seed)
    recording[0], start[1] = -1, math.nan
    found = neighborhood(torch.from_numpy(start), torch.from_numpy(recording), 0.5, reach=2.5, others=others)
    positive, negative = found.validate().dense()
    for i in range(8):
        for j in range(8):
            known = i != j and not {i, j} & {0, 1}
            together, lag = recording[i] == recording[j], abs(start[i] - start[j]) / 0.5
            near = known and together and lag <= 2.5
            assert positive[i, j].item() == pytest.approx(math.exp(-(lag**2) / 2) if near else 0)
            assert negative[i, j] == (known and not near and (together or others))


@few
@given(seeds, st.sampled_from(["other", "own", "all"]))
def test_across_modalities_equals_loops(seed, negatives):
    recording, start, length, present = drawn(seed, 5)
    of_windows = windows(torch.from_numpy(recording), torch.from_numpy(start), torch.from_numpy(length))
    same, apart = (part.bool() for part in of_windows.dense())
    positive, negative = across_modalities(of_windows, torch.from_numpy(present), negatives=negatives).validate().dense()
    for row in range(15):
        for column in range(15):
            (m, i), (n, j) = divmod(row, 5), divmod(column, 5)
            both = present[m, i] and present[n, j]
            assert positive[row, column] == bool(both and m != n and (i == j or same[i, j]))
            among = {"other": m != n, "own": m == n, "all": True}[negatives]
            assert negative[row, column] == bool(both and among and apart[i, j])


@few
@given(seeds, st.sampled_from([None, 1]))
def test_cmc_equals_loops_with_modalities_missing(seed, core):
    recording, start, length, present = drawn(seed)
    z = [rows(8, 4, seed=seed + m) for m in range(3)]
    # windows of one instant are kin where one has several, which the loop leaves aside
    start = start + np.arange(8) * 1e-2
    apart = np.array([[not slow.overlap(recording, start, length, i, j) for j in range(8)] for i in range(8)])
    relation = windows(torch.from_numpy(recording), torch.from_numpy(start), torch.from_numpy(length))
    expected = slow.cmc([one.numpy() for one in z], present, apart, 0.1, core)
    for x, tolerance in ((z, 1e-9), ([one.float() for one in z], 1e-4)):
        found = cmc(x, torch.from_numpy(present), relation, core=core)
        assert found.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_cmc_is_info_nce_from_either_modality_to_the_other():
    z, present, ids = [rows(6, 4), rows(6, 4, seed=1)], torch.tensor([[True] * 5 + [False], [False] + [True] * 5]), torch.arange(6)
    both = make.modalities(ids, ids, present[0] & present[1], present[0] & present[1])
    one, other = (info_nce(a, both, b, reduction="valid") for a, b in (z, z[::-1]))
    assert cmc(z, present, make.views(ids, copies=1)).item() == pytest.approx((one + other).item() / 2)


def test_cmc_by_hand():
    """Two samples whose modalities agree and are at right angles to the other sample's: log(1 + e^(-1/t)) for each row."""
    z = torch.eye(2, dtype=torch.float64)
    far = windows(torch.tensor([0, 1]), torch.zeros(2), 1.0)
    assert cmc([z, z], torch.ones(2, 2, dtype=torch.bool), far, temperature=0.5).item() == pytest.approx(math.log(1 + math.exp(-2)))
    near = windows(torch.tensor([0, 0]), torch.tensor([0.0, 0.5]), 1.0)
    assert cmc([z, z], torch.ones(2, 2, dtype=torch.bool), near, temperature=0.5).item() == 0


def test_pairs_that_fewer_than_two_samples_show_are_left_out():
    present = torch.tensor([[True, True, True], [True, True, False], [False, False, True]])
    assert shared_pairs(present) == [(0, 1)]
    assert shared_pairs(present, least=1) == [(0, 1), (0, 2)]
    assert shared_pairs(present, core=2) == []
    z = [rows(3, 4, seed=m).requires_grad_() for m in range(3)]
    value = over_pairs(lambda a, b, both: vicreg(a, b, present=both), z, present)
    assert value.item() == pytest.approx(vicreg(z[0][:2], z[1][:2]).item())
    none = over_pairs(lambda a, b, both: vicreg(a, b, present=both), z, present & False)
    none.backward()
    assert none == 0
    assert not any(one.grad.any() for one in z)


def test_absent_rows_of_cmc_give_no_gradient_and_order_plays_no_part():
    _, _, _, present = drawn(3)
    present = torch.from_numpy(present)
    z = [rows(8, 4, seed=m).float() for m in range(3)]
    for one, there in zip(z, present, strict=True):
        one[~there] = math.nan
        one.requires_grad_()
    relation = windows(torch.arange(8) // 2, torch.arange(8.0), 1.5)
    with torch.autocast("cpu", torch.bfloat16):
        value = cmc(z, present, relation, temperature=0.05)
    value.backward()
    assert value.dtype == torch.float32
    for one, there in zip(z, present, strict=True):
        assert torch.isfinite(one.grad).all()
        assert not one.grad[~there].any()
        assert one.grad[there].any()
    order = torch.tensor([5, 2, 7, 0, 1, 4, 3, 6])
    moved = windows((torch.arange(8) // 2)[order], torch.arange(8.0)[order], 1.5)
    assert cmc([one[order] for one in z], present[:, order], moved, temperature=0.05).item() == pytest.approx(value.item(), rel=1e-5)
    assert cmc(z[::-1], present.flip(0), relation, temperature=0.05).item() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: windows(torch.zeros(3), torch.zeros(2), 1.0), "start for each of 3"),
        (lambda: windows(torch.zeros(3), torch.zeros(3), 0.0), "length"),
        (lambda: neighborhood(torch.zeros(3), torch.zeros(2), 1.0), "recording for each"),
        (lambda: neighborhood(torch.zeros(3), torch.zeros(3), 0.0), "spread"),
        (lambda: across_modalities(make.pairs(3), torch.ones(2, 3)), "across_modalities"),
        (lambda: across_modalities(make.pairs(3), torch.ones(2, 3) > 0, negatives="mine"), "negatives"),
        (lambda: cmc([torch.zeros(3, 2)] * 2, torch.ones(2, 2) > 0, make.pairs(3)), "present"),
        (lambda: cmc([torch.zeros(3, 2)] * 2, torch.ones(2, 3) > 0, make.pairs(3), core=2), "core"),
        (lambda: cmc([torch.zeros(3, 2)] * 2, torch.ones(2, 3) > 0, make.pairs(3), temperature=0), "temperature"),
    ],
)
def test_borders(call, words):
    with pytest.raises(ConfigError, match=words):
        call()
