"""The margin loss of distance-weighted sampling against loops in float64: values, gradients, and boundaries that are learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.miners.distance_weighted import distance_weighted
from kinshot.objectives.margin import Margin, margin_loss

CONTEXT = RunContext(num_samples=8, batch_size=8, steps_per_epoch=1, total_steps=10, seed=0)
Y = torch.tensor([0, 0, 1, 1, 1, 2, 2, -1])


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(z: Tensor, kin: Tensor, others: Tensor, boundary: Tensor, margin: float, nu: float, *, active: bool) -> Tensor:
    u = [row / row.square().sum().sqrt() for row in z]
    total, count = torch.zeros((), dtype=z.dtype), 0.0
    for a in range(len(z)):
        for b in range(len(z)):
            if a == b or not (kin[a, b] > 0 or others[a, b] > 0):
                continue
            d, weight = (u[a] - u[b]).square().sum().sqrt(), float(kin[a, b] + others[a, b])
            cost = d - boundary[a] + margin if kin[a, b] > 0 else boundary[a] - d + margin
            count += weight * float(cost > 0 or not active)
            total = total + weight * cost * (cost > 0) + (nu * weight * boundary[a] if kin[a, b] > 0 else 0)
    return total / max(count, 1e-9)


@pytest.mark.parametrize("nu", [0.0, 0.3])
@pytest.mark.parametrize("over", ["active", "all"])
@pytest.mark.parametrize("boundary", ["global", "class", "fixed"])
def test_value_and_gradients_equal_loops(boundary: Any, over: Any, nu: float) -> None:
    z = rows(8, 4).requires_grad_()
    loss = Margin(4, 3, CONTEXT, boundary=boundary, over=over, nu=nu).double()
    with torch.no_grad():
        loss.beta.add_(torch.tensor([0.1, -0.1, 0.05]) if boundary == "class" else 0.03)
    # drawn others, of which some count twice
    unit = torch.nn.functional.normalize(z.detach(), dim=1)
    relation = distance_weighted(unit @ unit.T, make.labels(Y), 4, generator=torch.Generator().manual_seed(1))
    value = loss(z, relation, None, Y, 0)
    value.backward()
    again, beta = z.detach().clone().requires_grad_(), loss.beta.detach().clone().requires_grad_()
    each = torch.stack([beta[c] if c >= 0 else beta.new_tensor(1.2) for c in Y.tolist()]) if boundary == "class" else beta.expand(8)
    expected = by_loops(again, *relation.dense(), each, 0.2, nu, active=over == "active")
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(z.grad, again.grad)
    if boundary == "fixed":
        assert loss.beta.grad is None
    else:
        torch.testing.assert_close(loss.beta.grad, beta.grad)


def test_the_boundary_moves_to_where_most_pairs_are_right() -> None:
    """Kin at distance 0.2 and others at 0.6: the boundary that starts at 1.2 comes to lie between them."""
    z = torch.tensor([[1.0, 0.0], [0.98, 0.199], [0.82, -0.572], [0.69, -0.724]])
    loss = Margin(2, 2, CONTEXT, margin=0.1)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        loss(z, make.labels(torch.tensor([0, 0, 1, 1]))).backward()
        optimizer.step()
    assert 0.2 < float(loss.beta.detach()) < 0.6


def test_boundaries_of_classes_are_state_and_take_their_share_of_the_learning_rate() -> None:
    loss = Margin(4, 3, CONTEXT, boundary="class", boundary_lr=20.0)
    assert loss.lr_scale == 20
    assert {name: tuple(value.shape) for name, value in loss.state_dict().items()} == {"beta": (3,)}
    torch.testing.assert_close(loss.boundaries(torch.tensor([2, -1])), torch.tensor([1.2, 1.2]))
    assert loss.boundaries(None).shape == ()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"boundary.*labels"):
        Margin(4, 0, CONTEXT, boundary="class")
    with pytest.raises(ConfigError, match="boundary"):
        margin_loss(rows(8, 4), make.labels(Y), boundary=torch.ones(3))
    with pytest.raises(ConfigError, match="classes below 3, got 3"):
        Margin(4, 3, CONTEXT, boundary="class").boundaries(torch.tensor([0, 3]))
    with pytest.raises(ConfigError, match="nu"):
        margin_loss(rows(8, 4), make.labels(Y), boundary=torch.ones(()), nu=-1)
