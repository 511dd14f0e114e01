"""VICReg and Barlow Twins: against loops in float64, by hand, over the rows that are there, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.objectives.barlow_twins import barlow_twins, barlow_twins_terms
from kinshot.objectives.vicreg import vicreg, vicreg_terms
from tests import reference_temporal as slow

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None)
TERMS = {"vicreg": (vicreg, vicreg_terms, slow.vicreg), "barlow_twins": (barlow_twins, barlow_twins_terms, slow.barlow_twins)}
every = pytest.mark.parametrize("name", TERMS)


def rows(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@few
@given(seeds, st.sampled_from(sorted(TERMS)))
def test_terms_equal_loops_over_the_rows_that_are_present(seed, name):
    _, terms, loops = TERMS[name]
    a, b = rows(7, 4, seed=seed) * 0.7, rows(7, 4, seed=seed + 1) + 1
    present = torch.from_numpy(np.random.default_rng(seed).random(7) < 0.6)
    present[:2] = True
    for there in (None, present):
        kept = torch.ones(7, dtype=torch.bool) if there is None else there
        expected = loops(a[kept].numpy(), b[kept].numpy())
        for one, two, tolerance in ((a, b, 1e-9), (a.float(), b.float(), 1e-5)):
            found = terms(one, two, present=there)
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert found[key].item() == pytest.approx(value, rel=tolerance, abs=tolerance)


def test_vicreg_by_hand():
    """Four rows; feature 0 is 1, 1, -1, -1 (variance 4/3), feature 1 the same halved (1/3), covariance 2/3."""
    a = torch.tensor([[1.0, 0.5], [1.0, 0.5], [-1.0, -0.5], [-1.0, -0.5]], dtype=torch.float64)
    found = vicreg_terms(a, a + torch.tensor([0.0, 1.0]))
    assert found["invariance"].item() == pytest.approx(0.5)
    assert found["variance"].item() == pytest.approx(1 - math.sqrt(1 / 3 + 1e-4))  # a half of it on either side
    assert found["covariance"].item() == pytest.approx(2 * (2 * (2 / 3) ** 2 / 2))
    whole = vicreg(a, a + torch.tensor([0.0, 1.0]), invariance=2.0, variance=3.0, covariance=5.0)
    assert whole.item() == pytest.approx(2 * 0.5 + 3 * (1 - math.sqrt(1 / 3 + 1e-4)) + 5 * 8 / 9)


def test_barlow_twins_by_hand():
    """Features that are equal and opposite: R = [[1, -1], [-1, 1]] but for eps."""
    a = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [3.0, -3.0], [-3.0, 3.0]], dtype=torch.float64)
    r = 5 / (5 + 1e-5)
    assert barlow_twins(a, 2 * a, redundancy=0.25).item() == pytest.approx(0.25 * 2 * r**2, abs=1e-5)
    found = barlow_twins_terms(a, -a)
    assert found["invariance"].item() == pytest.approx(2 * (1 + r) ** 2)
    assert found["redundancy"].item() == pytest.approx(2 * r**2)


@every
def test_absent_rows_give_neither_value_nor_gradient(name):
    loss = TERMS[name][0]
    a, b, present = rows(6, 3).float(), rows(6, 3, seed=1).float(), torch.tensor([True, False, True, True, False, True])
    a[1], b[4] = math.nan, math.inf
    a.requires_grad_(), b.requires_grad_()
    value = loss(a, b, present=present)
    value.backward()
    assert value.item() == pytest.approx(loss(a.detach()[present], b.detach()[present]).item(), rel=1e-5)
    for x in (a, b):
        assert torch.isfinite(x.grad).all()
        assert not x.grad[~present].any()
        assert x.grad[present].any(1).all()


@every
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_present_rows_cost_nothing(name, count):
    a, b = rows(4, 3).requires_grad_(), rows(4, 3, seed=1).requires_grad_()
    value = TERMS[name][0](a, b, present=torch.arange(4) < count)
    value.backward()
    assert value == 0
    assert not a.grad.any()
    assert not b.grad.any()


@every
def test_order_of_rows_and_of_sets_does_not_matter(name):
    loss = TERMS[name][0]
    a, b, present = rows(6, 3), rows(6, 3, seed=1), torch.tensor([True, True, False, True, True, True])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    value = loss(a, b, present=present).item()
    assert loss(a[order], b[order], present=present[order]).item() == pytest.approx(value)
    assert loss(b, a, present=present).item() == pytest.approx(value)


def test_variance_is_active_where_everything_collapsed():
    a = torch.full((8, 3), 2.0) + 1e-3 * rows(8, 3).float()
    a.requires_grad_()
    terms = vicreg_terms(a, a.detach().clone())
    assert terms["invariance"] == 0
    assert terms["variance"] > 1.9
    terms["variance"].backward()
    assert (a.grad.abs().sum(0) > 0).all()
    assert ((a - a.mean(0)) * a.grad).sum() < 0  # a step against the gradient spreads them


@every
def test_gradients(name):
    present = torch.tensor([True, False, True, True, True])
    given_rows = (rows(5, 3).requires_grad_(), rows(5, 3, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: TERMS[name][0](a, b, present=present), given_rows)


@every
def test_many_float32_rows_keep_their_digits(name):
    a = torch.rand(200_003, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float() + 5
    b = a.flip(0) * 0.5 + a
    assert TERMS[name][0](a, b).item() == pytest.approx(TERMS[name][0](a.double(), b.double()).item(), rel=1e-4)


@every
@pytest.mark.parametrize(
    ("given_rows", "more", "words"),
    [
        ((rows(4, 3), rows(4, 2)), {}, "equally wide"),
        ((rows(1, 3), rows(1, 3)), {}, "at least two rows"),
        ((rows(4, 3), rows(4, 3)), {"ids": torch.arange(3)}, "one id"),
        ((rows(4, 3), rows(4, 3)), {"present": torch.ones(3, dtype=torch.bool)}, "present"),
        ((rows(4, 3), rows(4, 3)), {"present": torch.ones(4)}, "present"),
        ((rows(4, 3), rows(4, 3)), {"eps": 0.0}, "eps"),
    ],
)
def test_borders(name, given_rows, more, words):
    with pytest.raises(ConfigError, match=words):
        TERMS[name][0](*given_rows, **more)
