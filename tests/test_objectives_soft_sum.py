"""Soft maxima over pairs: the closed form beside the plain one, and where the plain one would overflow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinshot.objectives.soft_sum import log_one_plus_sum


def plain(similarity: Tensor, weights: Tensor, scale: float, threshold: float) -> Tensor:
    terms = weights.to(similarity.dtype) * (scale * (similarity - threshold)).exp()
    return (1 + terms.sum(dim=1)).log()


def batch(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    similarity = 2 * torch.rand(5, 7, dtype=torch.float64, generator=generator) - 1
    weights = torch.rand(5, 7, dtype=torch.float64, generator=generator) * (torch.rand(5, 7, generator=generator) > 0.4)
    weights[2] = 0
    return similarity, weights > 0 if kind == "bool" else weights


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("scale", [-2.0, 40.0])
def test_values_and_gradients_are_those_of_the_plain_form(kind: str, scale: float) -> None:
    similarity, weights = batch(kind)
    leaves = [similarity.clone().requires_grad_() for _ in range(2)]
    values = [form(leaf, weights, scale, 0.3) for form, leaf in zip((log_one_plus_sum, plain), leaves, strict=True)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=1e-12)
    for value in values:
        (value * torch.arange(1, 6)).sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-10, atol=1e-12)
    assert values[0][2] == 0
    assert not leaves[0].grad[2].any()


def test_float32_neither_overflows_nor_lets_absent_pairs_in() -> None:
    similarity = torch.tensor([[900.0, -900.0, 5000.0], [-900.0, -800.0, 5000.0]], requires_grad=True)
    value = log_one_plus_sum(similarity, torch.tensor([[True, True, False]] * 2), 1.0, 0.0)
    value.sum().backward()
    assert value.tolist() == [900.0, 0.0]
    assert similarity.grad.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_without_any_reference_it_is_0() -> None:
    assert log_one_plus_sum(torch.zeros(3, 0), torch.zeros(3, 0, dtype=torch.bool), 2.0, 0.5).tolist() == [0, 0, 0]
