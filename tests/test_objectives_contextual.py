"""Contextual similarity against loops in float64: its value, and the gradient of straight-through indicators by the same rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.objectives.contextual import contextual, contextual_similarity
from tests import reference_pairs as ref
from tests.test_objectives_info_nce import close, gradients, rows

Y = torch.tensor([0, 1, 0, 2, 1, -1, 0])


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.4, 0.5, 0.1), (0.95, 0.05, 0.1)])
@pytest.mark.parametrize(("neighbors", "seed"), [(2, 0), (4, 1), (5, 2), (20, 3)])
def test_contextual_equals_loops_in_value_and_straight_through_gradient(weights, neighbors, seed):
    z, y = rows(8, 3, seed=seed), torch.tensor([0, 0, 1, 1, 1, 2, 2, 0])
    P, N = (x.double().numpy() for x in make.labels(y).dense())
    names = ("contextual_weight", "contrastive_weight", "regularizer_weight")
    given = {**dict(zip(names, weights, strict=True)), "neighbors": neighbors}

    def loops(x):
        return ref.contextual(x, z.numpy(), P, N, weights, neighbors)

    value, (grad,) = gradients(lambda x: contextual(x, make.labels(y), **given), z)
    assert value.item() == pytest.approx(loops(z.numpy()), abs=1e-12)
    np.testing.assert_allclose(grad, ref.gradient(loops, z.numpy()), atol=1e-7)
    if neighbors < len(z) or weights[0] < 1:
        assert grad.abs().max() > 1e-3


def test_contextual_similarity_is_one_within_and_zero_across_far_groups():
    angles = torch.tensor([0.0, 0.01, 0.02, 3.0, 3.01, 3.02])
    rows_ = torch.stack([angles.cos(), angles.sin()], dim=1)
    found = contextual_similarity(rows_ @ rows_.T, 3)
    close(found, torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)))


def test_contextual_leaves_rows_of_unknown_class_out():
    z = rows(7, 3)
    known = [i for i in range(7) if Y[i] >= 0]
    value, (grad,) = gradients(lambda x: contextual(x, make.labels(Y)), z)
    expected, (some,) = gradients(lambda x: contextual(x, make.labels(Y[known])), z[known])
    close(value, expected)
    close(grad[known], some)
    assert (grad[Y < 0] == 0).all()


def test_contextual_keeps_exact_neighborhoods_in_half_precision():
    z = rows(8, 3).half()
    y = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        assert contextual(z, make.labels(y)) == contextual(z.float(), make.labels(y))


def test_contextual_of_equal_rows_without_slack_is_finite():
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(4))[[0, 1, 2, 0, 1, 2]]
    value, (grad,) = gradients(lambda x: contextual(x, make.labels(torch.tensor([0, 0, 1, 1, 2, 2])), eps=0.0, neighbors=2), z)
    assert torch.isfinite(value)
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda z, kin: contextual(z, kin, neighbors=1), "neighbors"),
        (lambda z, kin: contextual(z, kin, positive_margin=1.5), "positive_margin"),
        (lambda z, kin: contextual(z, kin, negative_margin=0.9), "margins"),
        (lambda z, kin: contextual(z, kin, z), "contextual.*references"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ConfigError, match=words):
        build(rows(4, 3), make.labels(torch.tensor([0, 0, 1, 1])))
