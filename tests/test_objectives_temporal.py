"""Objectives of sequences: against loops in float64, by hand, over the steps that are there, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.recordings import neighborhood, windows
from kinshot.objectives.info_nce import info_nce
from kinshot.objectives.temporal.cpc import cpc, future_steps
from kinshot.objectives.temporal.hierarchical import hierarchical, hierarchical_terms
from kinshot.objectives.temporal.masked_reconstruction import masked_reconstruction
from kinshot.objectives.temporal.stacked import stacked_info_nce
from kinshot.objectives.temporal.temporal_contrasting import temporal_contrasting
from kinshot.objectives.temporal.tnc import tnc, tnc_terms
from tests import reference_temporal as slow
from tests.test_core_relations import random_relation

seeds = st.integers(0, 10_000)
few = settings(max_examples=12, deadline=None)
ORDER = torch.tensor([3, 0, 4, 1, 2])


def rows(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def some(*shape, seed=0, share=0.7):
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < share)


def overlapping(seed):
    """Five windows in two recordings, and who is told apart, from the relation."""
    random = np.random.default_rng(seed)
    relation = windows(torch.from_numpy(random.integers(0, 2, 5)), torch.from_numpy(random.permutation(5) * 0.5), 1.2)
    return relation, relation.dense()[1].bool().numpy()


@few
@given(seeds)
def test_a_stack_is_info_nce_of_each_matrix(seed):
    z, refs = rows(3, 4, 5, seed=seed), rows(3, 6, 5, seed=seed + 1)
    relations = [random_relation(seed + i) for i in range(3)]
    sides = [torch.stack(part).double() for part in zip(*(r.dense() for r in relations), strict=True)]
    losses, valid = stacked_info_nce(z @ refs.transpose(1, 2) / 0.3, *sides)
    assert torch.equal(valid, (sides[0] > 0).any(2) & (sides[1] > 0).any(2))
    for i, relation in enumerate(relations):
        expected = info_nce(z[i], relation, refs[i], temperature=0.3, normalize=False, reduction="none")
        torch.testing.assert_close(losses[i][valid[i]], expected[valid[i]])
        assert not losses[i][~valid[i]].any()


@few
@given(seeds, st.sampled_from([0.05, 1.0]))
def test_cpc_equals_loops(seed, T):
    predicted, future, valid = rows(5, 4, 3, seed=seed), rows(5, 4, 3, seed=seed + 1), some(5, 4, seed=seed)
    relation, apart = overlapping(seed)
    whole = slow.cpc(predicted.numpy(), future.numpy(), np.ones((5, 4)), 1 - np.eye(5), T)
    assert cpc(predicted, future, temperature=T).item() == pytest.approx(whole)
    expected = slow.cpc(predicted.numpy(), future.numpy(), valid.numpy(), apart, T)
    assert cpc(predicted, future, relation, valid=valid, temperature=T).item() == pytest.approx(expected)
    single = cpc(predicted.float(), future.float(), relation, valid=valid, temperature=T)
    assert single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_cpc_by_hand():
    """Two series, two steps: the first predicted perfectly, the second the other way round."""
    future = torch.eye(2, dtype=torch.float64).unsqueeze(1).expand(2, 2, 2)
    predicted = torch.stack([future[:, 0], future[:, 1].flip(0)], 1)
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    assert cpc(predicted, future, temperature=0.5).item() == pytest.approx(expected)
    first = torch.tensor([[True, False], [True, True]])
    assert cpc(predicted, future, valid=first, temperature=0.5).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert cpc(3 * predicted, future, temperature=0.5, normalize=True).item() == pytest.approx(expected)


def test_future_steps_are_those_after_each_rows_own():
    z = torch.arange(10.0).view(2, 5, 1)
    found, there = future_steps(z, torch.tensor([0, 2]), 3)
    assert found[there].flatten().tolist() == [1, 2, 3, 8, 9]
    assert there.tolist() == [[True, True, True], [True, True, False]]
    valid = torch.tensor([[True, True, False, True, True]]).expand(2, -1)
    assert future_steps(z, 1, 2, valid)[1].tolist() == [[False, True], [False, True]]


@few
@given(seeds)
def test_temporal_contrasting_is_cpc_of_the_other_views_future(seed):
    weak, strong, of_strong, of_weak = (rows(5, 7, 3, seed=seed + i) for i in range(4))
    of_strong, of_weak, valid = of_strong[:, :3], of_weak[:, :3], some(5, 7, seed=seed)
    relation, apart = overlapping(seed)
    found = temporal_contrasting(weak, strong, of_strong, of_weak, 2, relation, valid=valid)
    for name, predicted, other in (("weak_to_strong", of_strong, strong), ("strong_to_weak", of_weak, weak)):
        expected = slow.cpc(predicted.numpy(), other[:, 3:6].numpy(), valid[:, 3:6].numpy(), apart, 1.0)
        assert found[name].item() == pytest.approx(expected)
    swapped = temporal_contrasting(strong, weak, of_weak, of_strong, 2, relation, valid=valid)
    assert swapped["weak_to_strong"].item() == pytest.approx(found["strong_to_weak"].item())


@few
@given(seeds, st.sampled_from([0.0, 0.05, 0.2]))
def test_tnc_equals_loops(seed, w):
    scores, relation = rows(4, 6, seed=seed) * 3, random_relation(seed)
    expected = slow.tnc(scores.numpy(), *(part.double().numpy() for part in relation.dense()), w)
    found = tnc_terms(scores, relation, weight=w)
    assert {name: term.item() for name, term in found.items()} == pytest.approx(expected)
    assert tnc(scores.float(), relation, weight=w).item() == pytest.approx(sum(expected.values()), rel=1e-5)


def test_tnc_by_hand_over_a_neighborhood():
    """Two windows half a spread apart, one far off, one of another recording, which is neither; D is 1/2 everywhere but once."""
    relation = neighborhood(torch.tensor([0.0, 0.5, 99.0, 0.0]), torch.tensor([0, 0, 0, 1]), 1.0)
    scores = torch.zeros(4, 4, dtype=torch.float64)
    scores[0, 2], scores[:, 3], scores[3] = math.log(3), 50.0, -50.0
    found = tnc_terms(scores, relation, weight=0.25)
    assert found["near"].item() == pytest.approx(math.log(2))
    surprised = 0.75 * math.log(4) + 0.25 * math.log(4 / 3)
    assert found["far"].item() == pytest.approx((surprised + 2 * math.log(2)) / 3)


def test_tnc_is_finite_for_the_surest_discriminator():
    scores = torch.tensor([[0.0, 200.0], [-200.0, 0.0]], dtype=torch.float16).requires_grad_()
    value = tnc(scores, make.labels(torch.tensor([0, 0])))
    value.backward()
    assert value.item() == pytest.approx(100.0)
    assert torch.isfinite(scores.grad).all()


@few
@given(seeds, st.sampled_from([1, 5, 8]), st.sampled_from([0, 1]))
def test_hierarchical_equals_loops_at_every_scale(seed, steps, finest):
    a, b, valid = rows(5, steps, 3, seed=seed), rows(5, steps, 3, seed=seed + 1), some(5, steps, seed=seed)
    relation, apart = overlapping(seed)
    for there, kin, others in ((None, None, 1 - np.eye(5)), (valid, relation, apart)):
        expected = slow.hierarchical(a.numpy(), b.numpy(), np.ones((5, steps)) > 0 if there is None else there.numpy(), others, finest)
        found = hierarchical_terms(a, b, kin, valid=there, finest=finest)
        assert {name: term.item() for name, term in found.items()} == pytest.approx(expected)
        total = hierarchical(a.float(), b.float(), kin, valid=there, alpha=0.3, finest=finest).item()
        assert total == pytest.approx(0.3 * expected["instance"] + 0.7 * expected["temporal"], rel=1e-4, abs=1e-5)


def test_hierarchical_by_hand():
    """Two series of two steps that are 0 but for the first step of the first series, which is 1 in both crops."""
    z = torch.zeros(2, 2, 1, dtype=torch.float64)
    z[0, 0] = 1
    # the row of ones finds itself at e among two zeros; any row of zeros among three that are alike
    one, zeros = -math.log(math.e / (math.e + 2)), math.log(3)
    found = hierarchical_terms(z, z)
    assert found["instance"].item() == pytest.approx(((one + zeros) / 2 + zeros) / 2 / 2 + (one + zeros) / 2 / 2)
    assert found["temporal"].item() == pytest.approx(((one + zeros) / 2 + zeros) / 2 / 2)
    assert hierarchical_terms(z[:1], z[:1])["instance"] == 0


def test_masked_reconstruction_is_over_what_was_hidden_and_measured():
    x, rebuilt = torch.tensor([[[1.0, math.nan, 3.0], [4.0, 5.0, 6.0]]]), torch.zeros(1, 2, 3, requires_grad=True)
    hidden = torch.tensor([[[True, True, False], [False, False, True]]])
    value = masked_reconstruction(x, rebuilt, hidden)
    value.backward()
    assert value.item() == (1 + 36) / 2
    assert rebuilt.grad.tolist() == [[[-1.0, 0.0, 0.0], [0.0, 0.0, -6.0]]]
    assert masked_reconstruction(x, rebuilt, hidden[:, :1]).item() == pytest.approx((1 + 16 + 25) / 3)
    assert masked_reconstruction(x, rebuilt, hidden & False) == 0


@few
@given(seeds)
def test_masked_reconstruction_equals_a_loop(seed):
    x, rebuilt, hidden = rows(3, 2, 6, seed=seed), rows(3, 2, 6, seed=seed + 1), some(3, 2, 6, seed=seed, share=0.4)
    x[some(3, 2, 6, seed=seed + 1, share=0.2)] = math.nan
    errors = [(float(a) - float(b)) ** 2 for a, b, h in zip(x.flatten(), rebuilt.flatten(), hidden.flatten(), strict=True)
              if h and not math.isnan(a)]  # fmt: skip
    assert masked_reconstruction(x, rebuilt, hidden).item() == pytest.approx(sum(errors) / len(errors) if errors else 0)


VALID = some(5, 4, seed=2)
LOSSES = {
    "cpc": lambda a, b, valid: cpc(a, b, valid=valid, temperature=0.05),
    "hierarchical": lambda a, b, valid: hierarchical(a, b, valid=valid),
}


@pytest.mark.parametrize("name", LOSSES)
def test_absent_steps_give_neither_value_nor_gradient(name):
    a, b = rows(5, 4, 3).float(), rows(5, 4, 3, seed=1).float()
    expected = LOSSES[name](a, b, VALID)
    a[~VALID], b[~VALID] = math.nan, -math.inf
    a.requires_grad_(), b.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = LOSSES[name](a, b, VALID)
    value.backward()
    assert torch.equal(value, expected)
    for x in (a, b):
        assert torch.isfinite(x.grad).all()
        assert not x.grad[~VALID].any()
        assert x.grad[VALID].any()


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_the_batch_does_not_matter_and_nothing_valid_costs_nothing(name):
    a, b = rows(5, 4, 3).requires_grad_(), rows(5, 4, 3, seed=1)
    value = LOSSES[name](a, b, VALID)
    assert LOSSES[name](a[ORDER], b[ORDER], VALID[ORDER]).item() == pytest.approx(value.item())
    nothing = LOSSES[name](a, b, VALID & False)
    nothing.backward()
    assert nothing == 0
    assert not a.grad.any()
    if name == "hierarchical":
        assert LOSSES[name](b, a, VALID).item() == pytest.approx(value.item())


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(name):
    a, b = rows(5, 4, 3).bfloat16(), rows(5, 4, 3, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = LOSSES[name](a, b, VALID)
    assert value.dtype == torch.float32
    assert torch.equal(value, LOSSES[name](a.float(), b.float(), VALID))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    sides = rows(5, 4, 3).requires_grad_(), rows(5, 4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: LOSSES[name](a, b, VALID), sides)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z: cpc(z, z[:, :3]), "predictions and futures"),
        (lambda z: cpc(z, z, valid=VALID[:, :3]), "valid"),
        (lambda z: cpc(z, z, make.pairs(4)), "relation of 5 rows"),
        (lambda z: cpc(z, z, temperature=0.0), "temperature"),
        (lambda z: future_steps(z, 0, 0), "at least 1 step"),
        (lambda z: future_steps(z, 0, 1, VALID.T), "valid"),
        (lambda z: temporal_contrasting(z, z[:, :2], z, z, 0), "temporal_contrasting"),
        (lambda z: tnc(z[0], make.pairs(4)), "score for each pair"),
        (lambda z: tnc(z[0, :, :], random_relation(0, 4, 3), weight=1.0), "weight"),
        (lambda z: hierarchical(z, z[:, :3]), "two crops"),
        (lambda z: hierarchical(z, z, alpha=1.5), "alpha"),
        (lambda z: hierarchical(z, z, finest=-1), "finest"),
        (lambda z: hierarchical(z, z, valid=VALID.T), "valid"),
        (lambda z: masked_reconstruction(z, z, VALID), "masked_reconstruction"),
    ],
)
def test_borders(call, words):
    with pytest.raises(ConfigError, match=words):
        call(rows(5, 4, 3))
