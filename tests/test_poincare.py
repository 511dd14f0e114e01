"""The Poincare ball: maps and distances against loops in float64, and the laws that they obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kinshot.core import poincare


def rows(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inside(count: int, c: float, seed: int = 0, length: float = 2.3) -> torch.Tensor:
    return poincare.project(poincare.exp_map(poincare.clip(rows(count, 3, seed=seed, scale=3), length), c), c)


def add_by_loops(x: np.ndarray, y: np.ndarray, c: float, eps: float = 0.0) -> np.ndarray:
    xy = sum(a * b for a, b in zip(x, y, strict=True))
    xx, yy = sum(a * a for a in x), sum(b * b for b in y)
    return np.array([((1 + 2 * c * xy + c * yy) * a + (1 - c * xx) * b) / (1 + 2 * c * xy + c * c * xx * yy + eps)
                     for a, b in zip(x, y, strict=True)])  # fmt: skip


@pytest.mark.parametrize("c", [0.1, 1.0])
def test_maps_are_what_loops_make(c: float) -> None:
    v = rows(6, 3, scale=2)
    for before, clipped, after in zip(v.numpy(), poincare.clip(v, 2.3).numpy(), poincare.exp_map(v, c).numpy(), strict=True):
        length = math.sqrt(sum(a * a for a in before))
        np.testing.assert_allclose(clipped, before * min(1.0, 2.3 / (length + 1e-5)), rtol=1e-12)
        np.testing.assert_allclose(after, before * math.tanh(math.sqrt(c) * length) / (math.sqrt(c) * length), rtol=1e-12)
    far = poincare.project(v * 100, c)
    np.testing.assert_allclose(far.norm(dim=1), (1 - 1e-3) / math.sqrt(c))
    near = v * 0.01
    assert torch.equal(poincare.project(near, c), near)
    assert torch.equal(poincare.exp_map(torch.zeros(2, 3), c), torch.zeros(2, 3))


@pytest.mark.parametrize("c", [0.1, 1.0])
def test_sum_and_distance_are_what_loops_make(c: float) -> None:
    x, y = inside(5, c), inside(4, c, seed=1)
    together = poincare.mobius_add(x.unsqueeze(1), y, c)
    exact, clamped = poincare.distances(x, y, c), poincare.distances(x, y, c, clamped=True)
    for i, a in enumerate(x.numpy()):
        for j, b in enumerate(y.numpy()):
            np.testing.assert_allclose(together[i, j], add_by_loops(a, b, c), rtol=1e-10)
            length = np.linalg.norm(add_by_loops(-a, b, c))
            np.testing.assert_allclose(exact[i, j], 2 / math.sqrt(c) * math.atanh(math.sqrt(c) * length), rtol=1e-9)
            length = np.linalg.norm(add_by_loops(-a, b, c, 1e-5))
            expected = 2 / math.sqrt(c) * math.atanh(min(math.sqrt(c) * length, 1 - 1e-5))
            np.testing.assert_allclose(clamped[i, j], expected, rtol=1e-9)
    zero = torch.zeros_like(x)
    torch.testing.assert_close(poincare.mobius_add(zero, x, c), x)
    torch.testing.assert_close(poincare.mobius_add(-x, x, c), zero, atol=1e-12, rtol=0)
    # the exponential map keeps distances from the origin: they are twice the tangent vector's length
    v = rows(6, 3, scale=0.5)
    torch.testing.assert_close(poincare.distances(poincare.exp_map(v, c), zero[:1], c)[:, 0], 2 * v.norm(dim=1))


def test_distances_keep_the_triangle_inequality_and_grow_towards_the_rim() -> None:
    x = inside(8, 1.0)
    d = poincare.distances(x, x, 1.0)
    assert torch.equal(d.diagonal(), torch.zeros(8, dtype=d.dtype))
    assert bool((d.unsqueeze(2) + d.unsqueeze(0) >= d.unsqueeze(1) - 1e-12).all())
    step = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.8, 0.0], [0.9, 0.0]])
    d = poincare.distances(step, step, 1.0)
    assert d[2, 3] > 2 * d[0, 1]


@pytest.mark.parametrize("clamped", [False, True])
def test_values_and_gradients_are_finite_everywhere(clamped: bool) -> None:
    rim = torch.tensor([[0.999, 0.0], [-0.999, 0.0], [0.0, 0.0], [0.0, 0.0], [1e-20, 0.0]], requires_grad=True)
    d = poincare.distances(rim, rim, 1.0, clamped=clamped)
    d.sum().backward()
    assert torch.isfinite(d).all()
    assert torch.isfinite(rim.grad).all()
    v = torch.zeros(2, 3, requires_grad=True)
    poincare.to_ball(v, 0.1, 2.3).sum().backward()
    assert torch.isfinite(v.grad).all()


def test_gradient_is_that_of_the_ball() -> None:
    x = inside(4, 0.1).requires_grad_()
    weights = rows(4, 3, seed=3)
    y = poincare.riemannian(x, 0.1)
    assert torch.equal(y, x)
    (y * weights).sum().backward()
    for got, point, plain in zip(x.grad, x.detach(), weights, strict=True):
        torch.testing.assert_close(got, plain * (1 - 0.1 * float(point @ point)) ** 2 / 4)


def test_the_gradient_of_the_distance_is_that_of_finite_differences() -> None:
    x, y = inside(3, 0.1), inside(4, 0.1, seed=1)
    for clamped in (False, True):
        torch.autograd.gradcheck(lambda a, b, k=clamped: poincare.distances(a, b, 0.1, clamped=k), (x.requires_grad_(), y.requires_grad_()))
