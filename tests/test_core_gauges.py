"""Collapse gauges against slow float64 loops, and against what they must say of known shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core.errors import DataError
from kinshot.learn.gauges import alignment, effective_rank, feature_std, uniformity


def unit_rows(z: np.ndarray) -> np.ndarray:
    return np.stack([row / math.sqrt(sum(v * v for v in row)) for row in z])


def slow_feature_std(z: np.ndarray) -> float:
    u, total = unit_rows(z), 0.0
    for d in range(z.shape[1]):
        mean = sum(u[:, d]) / len(u)
        total += math.sqrt(sum((v - mean) ** 2 for v in u[:, d]) / (len(u) - 1))
    return total / z.shape[1] * math.sqrt(z.shape[1])


def slow_effective_rank(z: np.ndarray) -> float:
    # singular values the long way: square roots of the eigenvalues of the Gram matrix
    gram = z @ z.T if z.shape[0] < z.shape[1] else z.T @ z
    values = [math.sqrt(max(v, 0.0)) for v in np.linalg.eigvalsh(gram)]
    shares = [v / sum(values) for v in values]
    return math.exp(-sum(p * math.log(p) for p in shares if p > 0))


def slow_alignment(x: np.ndarray, y: np.ndarray, alpha: float) -> float:
    pairs = zip(unit_rows(x), unit_rows(y), strict=True)
    return sum(math.dist(a, b) ** alpha for a, b in pairs) / len(x)


def slow_uniformity(z: np.ndarray, t: float) -> float:
    u = unit_rows(z)
    terms = [math.exp(-t * math.dist(u[i], u[j]) ** 2) for i in range(len(u)) for j in range(i)]
    return math.log(sum(terms) / len(terms))


@st.composite
def embeddings(draw: st.DrawFn) -> np.ndarray:
    rows, dims, seed = draw(st.integers(2, 9)), draw(st.integers(2, 12)), draw(st.integers(0, 2**31))
    scale, shift = draw(st.sampled_from([0.01, 1.0, 100.0])), draw(st.sampled_from([0.0, 1.0]))
    return np.random.default_rng(seed).normal(size=(rows, dims)) * scale + shift


@given(embeddings())
def test_gauges_equal_their_formulas(z: np.ndarray) -> None:
    x = torch.tensor(z, dtype=torch.float32)
    y = x.roll(1, 0) + 0.5
    assert float(feature_std(x)) == pytest.approx(slow_feature_std(z), rel=1e-4, abs=1e-6)
    assert float(effective_rank(x)) == pytest.approx(slow_effective_rank(z), rel=1e-3)
    assert float(uniformity(x)) == pytest.approx(slow_uniformity(z, 2.0), rel=1e-4, abs=1e-5)
    assert float(uniformity(x, t=0.5)) == pytest.approx(slow_uniformity(z, 0.5), rel=1e-4, abs=1e-5)
    for alpha in (1.0, 2.0):
        expected = slow_alignment(z, y.double().numpy(), alpha)
        assert float(alignment(x, y, alpha)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_collapsed_embeddings() -> None:
    same = torch.ones(6, 4) * 3
    assert float(feature_std(same)) == pytest.approx(0, abs=1e-6)
    assert float(effective_rank(same)) == pytest.approx(1, abs=1e-3)
    assert float(uniformity(same)) == pytest.approx(0, abs=1e-6)
    assert float(alignment(same, 2 * same)) == pytest.approx(0, abs=1e-6)
    assert float(effective_rank(torch.zeros(3, 4))) == 1.0


def test_spread_embeddings() -> None:
    z = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert float(feature_std(z)) == pytest.approx(1, abs=0.01)
    assert float(uniformity(z[:500])) == pytest.approx(-4, abs=0.2)
    assert float(effective_rank(torch.eye(5))) == pytest.approx(5, rel=1e-5)
    assert float(alignment(z[:2000], z[2000:])) == pytest.approx(2, abs=0.05)


def test_low_precision_is_computed_in_float32_without_gradient() -> None:
    z = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    for value in (feature_std(z), effective_rank(z), uniformity(z), alignment(z, z.roll(1, 0))):
        assert value.dtype == torch.float32
        assert value.dim() == 0
        assert not value.requires_grad
    assert float(uniformity(z)) == float(uniformity(z.float()))


def test_not_finite_gives_not_finite_and_no_error() -> None:
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    z[1, 1] = math.nan
    for value in (feature_std(z), effective_rank(z), uniformity(z), alignment(z, z)):
        assert not math.isfinite(float(value))


@pytest.mark.parametrize("shape", [(1, 4), (4,), (2, 3, 4)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    for gauge in (feature_std, effective_rank, uniformity):
        with pytest.raises(DataError, match=str(shape[0])):
            gauge(torch.zeros(shape))
    with pytest.raises(DataError, match="two views"):
        alignment(torch.zeros(2, 3), torch.zeros(3, 3))
