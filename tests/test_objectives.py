"""Contrastive objectives against loops in float64, against lightly, and under autocast."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.kin.constructors import listed, views
from kinshot.objectives.common import unit
from kinshot.objectives.indexed import indexed_similarity
from kinshot.objectives.info_nce import info_nce, key_info_nce
from kinshot.objectives.nt_xent import nt_xent
from tests import reference_interclr as ref
from tests import reference_objectives


def rows(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def two_views(first, second, temperature, ids=None):
    kin = views(torch.arange(len(first)) if ids is None else ids)
    return nt_xent(torch.cat([first, second]), kin, temperature=temperature)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("shape", [(7, 5), (4, 6, 5)])
def test_info_nce_equals_loops(shape, dtype, tolerance):
    q, k, n = rows(4, 5), rows(4, 5, seed=1), rows(*shape, seed=2)
    expected = ref.info_nce(q.numpy(), k.numpy(), n.numpy(), 0.2)
    assert key_info_nce(q.to(dtype), k.to(dtype), n.to(dtype), 0.2).item() == pytest.approx(expected, abs=tolerance)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.floats(0.05, 2.0), st.integers(0, 1000))
def test_nt_xent_equals_loops(batch, temperature, seed):
    a, b = rows(batch, 3, seed=seed), rows(batch, 3, seed=seed + 1)
    assert two_views(a, b, temperature).item() == pytest.approx(ref.nt_xent(a.numpy(), b.numpy(), temperature), abs=1e-10)


def test_nt_xent_equals_lightly():
    loss = pytest.importorskip("lightly.loss")
    a, b = rows(6, 8, dtype=torch.float32), rows(6, 8, seed=3, dtype=torch.float32)
    assert two_views(a, b, 0.3).item() == pytest.approx(loss.NTXentLoss(temperature=0.3)(a, b).item(), abs=1e-6)


def test_rows_of_one_image_are_kin_not_negatives():
    a, b = rows(4, 3), rows(4, 3, seed=1)
    ids = torch.tensor([7, 2, 7, 5])
    y = [*ids.tolist(), *ids.tolist()]
    z = np.concatenate([a.numpy(), b.numpy()])
    assert two_views(a, b, 0.4, ids).item() == pytest.approx(reference_objectives.sup_con(z, y, 0.4), abs=1e-12)
    assert two_views(a, b, 0.4, torch.tensor([3, 9, 1, 0])).item() == pytest.approx(two_views(a, b, 0.4).item(), abs=1e-12)


def test_nt_xent_is_symmetric_and_scale_free():
    a, b = rows(5, 4), rows(5, 4, seed=1)
    assert two_views(a, b, 0.5).item() == pytest.approx(two_views(3 * b, 0.1 * a, 0.5).item(), abs=1e-12)


def test_indexed_similarity_equals_gathering_forwards_and_backwards():
    q, bank = rows(70, 5).requires_grad_(), rows(30, 5, seed=1)
    indices = torch.randint(0, 30, (70, 100), generator=torch.Generator().manual_seed(2))
    weight = rows(70, 100, seed=3)
    ours = indexed_similarity(q, bank, indices)
    (ours * weight).sum().backward()
    plain = q.detach().clone().requires_grad_()
    expected = torch.einsum("bd,bmd->bm", plain, bank[indices])
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(q.grad, plain.grad, rtol=0, atol=1e-11)


def test_indexed_similarity_passes_gradcheck():
    indices = torch.tensor([[0, 1, 1], [3, 2, 0]])
    assert torch.autograd.gradcheck(lambda q: indexed_similarity(q, rows(4, 3, seed=1), indices), (rows(2, 3).requires_grad_(),))


def test_anchor_of_weight_zero_counts_in_the_mean_and_gives_no_gradient():
    q, bank = rows(3, 4).requires_grad_(), unit(rows(6, 4, seed=1))
    positive, negative = torch.tensor([0, 1, 2]), torch.tensor([[3, 4], [4, 5], [5, 3]])
    weights = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    loss = info_nce(q, listed(positive, negative, size=6), bank, temperature=0.5, anchor_weights=weights, positive_margin=lambda s: s - 0.1)
    loss.backward()
    s = (unit(q.detach()) @ bank.T).numpy()
    each = [ref.cross_entropy(s[b, b] - 0.1, [s[b, j] for j in negative[b].tolist()], 0.5) for b in range(3)]
    assert loss.item() == pytest.approx((each[0] + each[2]) / 3, abs=1e-12)
    assert q.grad is not None
    assert (q.grad[1] == 0).all()
    assert (q.grad[[0, 2]] != 0).all()


def test_gradient_of_info_nce_is_that_of_its_definition():
    q, k, n = rows(3, 4).requires_grad_(), rows(3, 4, seed=1), rows(6, 4, seed=2)
    assert torch.autograd.gradcheck(lambda x: key_info_nce(x, k, n, 0.3), (q,))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_losses_are_float32_under_autocast_and_for_half_inputs(half):
    a, b, n = (rows(4, 8, seed=s, dtype=torch.float32) for s in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [key_info_nce(a, b, n, 0.2), two_views(a, b, 0.2)]
    plain = [key_info_nce(a, b, n, 0.2), two_views(a, b, 0.2)]
    for x, y in zip(inside, plain, strict=True):
        assert x.dtype == torch.float32
        assert x.item() == pytest.approx(y.item(), abs=1e-6)
    assert key_info_nce(a.to(half), b.to(half), n.to(half), 0.2).dtype == torch.float32
    assert unit(a.to(half)).dtype == torch.float32


def test_uniform_similarities_give_the_logarithm_of_the_number_of_candidates():
    assert key_info_nce(torch.ones(2, 3), torch.ones(2, 3), torch.ones(9, 3), 0.1).item() == pytest.approx(math.log(10), abs=1e-6)
    assert np.isclose(two_views(torch.ones(4, 3), torch.ones(4, 3), 0.7).item(), math.log(7))


def test_bad_arguments_are_named():
    a = torch.ones(2, 3)
    with pytest.raises(ConfigError, match="temperature"):
        key_info_nce(a, a, a, 0.0)
    with pytest.raises(ConfigError, match="temperature"):
        two_views(a, a, -1.0)
    with pytest.raises(ConfigError, match="shape"):
        nt_xent(torch.ones(5, 3), views(torch.arange(2)))
