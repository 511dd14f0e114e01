"""Products with directions of rows of classes: gradients in closed form beside those of the plain form, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.objectives.proxies.directions import along, cosines, nearest_cosines

Form = Callable[[Tensor, Tensor], Tensor]
FORMS: dict[str, tuple[Form, Form]] = {
    "along": (along, lambda z, w: z @ F.normalize(w).T),
    "cosines": (cosines, lambda z, w: F.normalize(z) @ F.normalize(w).T),
    "nearest of 1": (lambda z, w: nearest_cosines(z, w, 1), lambda z, w: F.normalize(z) @ F.normalize(w).T),
    "nearest of 3": (
        lambda z, w: nearest_cosines(z, w, 3),
        lambda z, w: (F.normalize(z) @ F.normalize(w).T).unflatten(1, (-1, 3)).max(dim=2).values,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_values_and_gradients_are_those_of_the_plain_form(name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    z, weight = (3 * torch.randn(*size, dtype=torch.float64, generator=generator) for size in ((7, 4), (6, 4)))
    weight[3] = weight[4]  # of equal rows of a class the first takes the gradient
    upstream = torch.randn(1, dtype=torch.float64, generator=generator)
    found = []
    for form in FORMS[name]:
        leaves = [z.clone().requires_grad_(), weight.clone().requires_grad_()]
        value = form(*leaves)
        (value * torch.linspace(-1, 2, value.numel(), dtype=torch.float64).view_as(value) * upstream).sum().backward()
        found.append((value.detach(), *(leaf.grad for leaf in leaves)))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_a_row_of_zeros_is_at_a_right_angle_to_all(name: str) -> None:
    z, weight = torch.eye(3, 4).requires_grad_(), torch.zeros(6, 4, requires_grad=True)
    value = FORMS[name][0](z, weight)
    value.sum().backward()
    assert not value.any()
    assert torch.isfinite(weight.grad).all()
    assert not z.grad.any()


def test_rows_that_nobody_learns_take_no_gradient() -> None:
    z, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    cosines(z, weight).sum().backward()
    assert z.grad.any()
    weight.requires_grad_()
    cosines(z.detach(), weight).sum().backward()
    assert weight.grad.any()
