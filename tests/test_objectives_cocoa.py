"""COCOA in both forms: against loops in float64, by hand, and against the paper's sum over a batch of modalities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.objectives.cocoa import cocoa
from tests import reference_temporal as slow
from tests.test_core_relations import random_relation

few = settings(max_examples=15, deadline=None)


def rows(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def own_modality(count, modalities):
    """Kin are the other modalities of an instant, told apart other instants of a modality; rows are [modality 1; modality 2; ...]."""
    instant, modality = torch.arange(count).repeat(modalities), torch.arange(modalities).repeat_interleave(count)
    same, beside = instant.unsqueeze(1) == instant, modality.unsqueeze(1) == modality
    return make.weights(same & ~beside, beside & ~same)


@few
@given(st.integers(0, 10_000), st.sampled_from(["sum", "ratio"]), st.sampled_from([0.1, 0.5, 2.0]))
def test_both_forms_equal_loops(seed, form, T):
    z, refs, relation = rows(4, 3, seed=seed), rows(6, 3, seed=seed + 1), random_relation(seed)
    P, N = (part.double().numpy() for part in relation.dense())
    expected = slow.cocoa(z.numpy(), refs.numpy(), P, N, T, form, alpha=0.7, lam=1.3)
    for x, tolerance in ((z, 1e-9), (z.float(), 1e-4)):
        found = cocoa(x, relation, refs, form=form, temperature=T, alpha=0.7, lam=1.3, reduction="none")
        assert found.tolist() == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("modalities", [2, 3])
def test_the_sum_over_rows_is_the_papers_sum(modalities):
    z = rows(modalities, 5, 4)
    kin = own_modality(5, modalities)
    found = cocoa(z.reshape(-1, 4), kin, temperature=0.5, alpha=0.3 / modalities, lam=0.2, reduction="sum")
    assert found.item() == pytest.approx(slow.cocoa_of_the_paper(z.numpy(), 0.5, 0.3, 0.2))


def test_by_hand():
    """Two modalities of two instants: kin at right angles, the windows of each modality opposite to one another."""
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    kin = own_modality(2, 2)
    assert cocoa(z, kin, temperature=0.5, alpha=2.0, lam=3.0).item() == pytest.approx(2 * math.exp(2) + 3 * math.exp(-2))
    assert cocoa(z, kin, temperature=0.5, form="ratio").item() == pytest.approx(math.log(1 + math.exp(-2)))


@pytest.mark.parametrize("form", ["sum", "ratio"])
def test_cold_temperatures_are_finite_in_half_precision(form):
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], dtype=torch.float16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = cocoa(z, own_modality(2, 2), form=form, temperature=0.05)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert value.item() == pytest.approx(math.exp(40) if form == "sum" else math.log(2), rel=1e-4)
    assert torch.isfinite(z.grad.float()).all()


@pytest.mark.parametrize("form", ["sum", "ratio"])
def test_gradients(form):
    assert torch.autograd.gradcheck(lambda z: cocoa(z, own_modality(3, 2), form=form), rows(6, 3).requires_grad_())


@pytest.mark.parametrize(
    ("settings", "words"), [({"form": "mean"}, "form"), ({"temperature": 0.02}, "form=ratio"), ({"alpha": math.nan}, "alpha")]
)
def test_borders(settings, words):
    with pytest.raises(ConfigError, match=words):
        cocoa(rows(4, 3), own_modality(2, 2), **settings)
    if settings == {"temperature": 0.02}:
        assert torch.isfinite(cocoa(rows(4, 3), own_modality(2, 2), form="ratio", **settings))
