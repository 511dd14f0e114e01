"""FOCAL's four terms: against loops in float64, by hand, with modalities missing, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.recordings import windows
from kinshot.objectives.temporal.focal import focal, focal_terms
from tests import reference_temporal as slow

SHAPE = 2, 3, 4, 3, 6  # views, modalities, sequences, windows, D
ALL = torch.ones(3, 4, 3, dtype=torch.bool)
SOME = torch.from_numpy(np.random.default_rng(1).random((3, 4, 3)) < 0.7)


def rows(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 0.0]), st.sampled_from([0.07, 0.5]))
def test_terms_equal_loops(seed, margin, T):
    random = np.random.default_rng(seed)
    z, present = rows(*SHAPE, seed=seed), random.random((3, 4, 3)) < 0.7
    relation = windows(torch.from_numpy(random.integers(0, 2, 4)), torch.from_numpy(random.permutation(4) * 1.0), 1.5)
    for there, kin, apart in ((np.ones((3, 4, 3)) > 0, None, 1 - np.eye(4)), (present, relation, relation.dense()[1].bool().numpy())):
        expected = slow.focal(z.numpy(), there, apart, T, margin)
        for x, tolerance in ((z, 1e-9), (z.float(), 1e-4)):
            found = focal_terms(x, torch.from_numpy(there), kin, temperature=T, margin=margin)
            assert {name: term.item() for name, term in found.items()} == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_by_hand():
    """Two modalities, two sequences of two windows. Halves of both modalities agree, those of either sequence are at right angles."""
    z = torch.zeros(2, 2, 2, 2, 4, dtype=torch.float64)
    z[:, :, 0, :, 0] = z[:, :, 1, :, 1] = 1  # shared: (1, 0) and (0, 1)
    z[:, :, 0, :, 2] = z[:, :, 1, :, 3] = 2  # private: (2, 0) and (0, 2)
    found = focal_terms(z, torch.ones(2, 2, 2, dtype=torch.bool), temperature=0.5, margin=4.0)
    row = math.log(1 + 2 * math.exp(-2))  # kin at e^2, two others at 1
    assert found["shared"].item() == pytest.approx(2 * row)
    assert found["private"].item() == pytest.approx(2 * row)
    assert found["orthogonality"].item() == pytest.approx(2 * (1 + 1 + 1))  # shared with private of either modality, private with private
    assert found["temporal"].item() == pytest.approx(4 * (4 - math.sqrt(10)))  # windows coincide, sequences are sqrt(10) apart


def test_the_whole_is_the_weighted_sum():
    z = rows(*SHAPE)
    terms = focal_terms(z, SOME)
    expected = terms["shared"] + terms["private"] + 3 * terms["orthogonality"] + 5 * terms["temporal"]
    assert focal(z, SOME).item() == pytest.approx(expected.item())
    assert focal(z, SOME, shared=0, private=2, orthogonality=0, temporal=0).item() == pytest.approx(2 * terms["private"].item())


def test_absent_rows_give_neither_value_nor_gradient():
    z = rows(*SHAPE).float()
    expected = focal(z, SOME, temperature=0.05)
    z[:, ~SOME] = math.nan
    z.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = focal(z, SOME, temperature=0.05)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert torch.isfinite(z.grad).all()
    assert not z.grad[:, ~SOME].any()
    assert z.grad[:, SOME].any(-1).all()


def test_order_of_views_modalities_and_sequences_does_not_matter():
    z, order = rows(*SHAPE), torch.tensor([2, 0, 3, 1])
    terms = {name: term.item() for name, term in focal_terms(z, SOME).items()}
    for moved, there in ((z.flip(0), SOME), (z.flip(1), SOME.flip(0)), (z[:, :, order], SOME[:, order])):
        assert {name: term.item() for name, term in focal_terms(moved, there).items()} == pytest.approx(terms)


def test_one_modality_one_sequence_and_nothing_at_all():
    z = rows(*SHAPE).requires_grad_()
    alone = focal_terms(z[:, :1], ALL[:1])
    assert alone["shared"] == 0
    assert alone["private"] > 0
    single = focal_terms(z[:, :, :1], ALL[:, :1])
    assert single["shared"] == single["private"] == single["temporal"] == 0
    nothing = focal(z, ALL & False)
    nothing.backward()
    assert nothing == 0
    assert not z.grad.any()


def test_windows_that_coincide_leave_finite_gradients():
    z = torch.ones(SHAPE).requires_grad_()
    focal(z, ALL).backward()
    assert torch.isfinite(z.grad).all()


def test_gradients():
    there = torch.tensor([[[True, True], [True, False], [True, True]], [[True, True], [False, True], [True, True]]])
    assert torch.autograd.gradcheck(lambda z: focal(z, there, temperature=0.5), rows(2, 2, 3, 2, 4).requires_grad_())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z: focal(z[0], ALL), "embeddings"),
        (lambda z: focal(z[..., :5], ALL), "even D"),
        (lambda z: focal(z, ALL[:2]), "present"),
        (lambda z: focal(z, ALL.float()), "present"),
        (lambda z: focal(z, ALL, make.pairs(3)), "relation of 4 rows"),
        (lambda z: focal(z, ALL, temperature=0.0), "temperature"),
        (lambda z: focal(z, ALL, margin=-1.0), "margin"),
        (lambda z: focal(z, ALL, orthogonality=-1.0), "orthogonality"),
    ],
)
def test_borders(call, words):
    with pytest.raises(ConfigError, match=words):
        call(rows(*SHAPE))
