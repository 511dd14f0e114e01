"""Gradient descent inside a loss, against finite differences, unrolled autograd and, where it is installed, learn2learn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.fewshot.inner_loop import Parameters, descend, linear_scores, over_tasks

E, S, Q, D, W, H = 3, 6, 4, 5, 3, 4


def about(name: str) -> Callable[[str], str]:
    """A message of `assert_close` that says which tensor it is about."""
    return lambda message: f"{name}: {message}"


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def start() -> Parameters:
    shapes = {"0.weight": (H, D), "0.bias": (H,), "2.weight": (W, H), "2.bias": (W,)}
    return {name: (0.7 * noise(i, *shape)).requires_grad_() for i, (name, shape) in enumerate(shapes.items())}


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return noise(10, E, S, D), torch.arange(S).remainder(W).expand(E, -1), noise(11, E, Q, D), torch.arange(Q).remainder(W).expand(E, -1)


def logits(p: Parameters, x: Tensor) -> Tensor:
    return F.linear(torch.tanh(F.linear(x, p["0.weight"], p["0.bias"])), p["2.weight"], p["2.bias"])


def cross_entropy(p: Parameters, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits(p, x), y)


def meta_loss(p: Parameters, steps: int = 3, lr: float = 0.4, first_order: bool = False, at_once: bool = False) -> Tensor:
    def task(x: Tensor, y: Tensor, query: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(descend(cross_entropy, p, x, y, steps=steps, lr=lr, first_order=first_order), query, target)

    return over_tasks(task, *data(), at_once=at_once).mean()


def gradient_of(loss: Tensor, p: Parameters) -> Parameters:
    return dict(zip(p, torch.autograd.grad(loss, list(p.values())), strict=True))


def assert_same(ours: Parameters, reference: Parameters, tolerance: float = 1e-11) -> None:
    assert ours.keys() == reference.keys()
    for name, value in reference.items():
        torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance, msg=about(name))


def unrolled(p: Parameters, x: Tensor, y: Tensor, steps: int, lr: float, create_graph: bool) -> Parameters:
    for _ in range(steps):
        found = torch.autograd.grad(cross_entropy(p, x, y), list(p.values()), create_graph=create_graph)
        p = {name: value - lr * g for (name, value), g in zip(p.items(), found, strict=True)}
    return p


def numpy_meta_loss(p: dict[str, np.ndarray], steps: int, lr: float) -> float:
    """The same with back-propagation written out."""

    def forward(p: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hidden = np.tanh(x @ p["0.weight"].T + p["0.bias"])
        z = hidden @ p["2.weight"].T + p["2.bias"]
        e = np.exp(z - z.max(1, keepdims=True))
        return hidden, e / e.sum(1, keepdims=True)

    losses = []
    for x, y, query, target in zip(*(t.numpy() for t in data()), strict=True):
        q = dict(p)
        for _ in range(steps):
            hidden, probability = forward(q, x)
            out = (probability - np.eye(W)[y]) / len(x)
            inner = (out @ q["2.weight"]) * (1 - hidden**2)
            slopes = {"0.weight": inner.T @ x, "0.bias": inner.sum(0), "2.weight": out.T @ hidden, "2.bias": out.sum(0)}
            q = {name: value - lr * slopes[name] for name, value in q.items()}
        losses.append(-np.log(forward(q, query)[1][np.arange(len(query)), target]).mean())
    return float(np.mean(losses))


def test_meta_gradient_matches_finite_differences_of_a_numpy_reference() -> None:
    p = start()
    loss = meta_loss(p)
    plain = {name: value.detach().numpy() for name, value in p.items()}
    assert loss.item() == pytest.approx(numpy_meta_loss(plain, 3, 0.4), rel=1e-12)
    for name, gradient in gradient_of(loss, p).items():
        for place in np.ndindex(*gradient.shape):
            moved = []
            for sign in (1, -1):
                shifted = plain[name].copy()
                shifted[place] += sign * 1e-5
                moved.append(numpy_meta_loss({**plain, name: shifted}, 3, 0.4))
            assert gradient[place].item() == pytest.approx((moved[0] - moved[1]) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("first_order", [False, True])
def test_descent_and_meta_gradient_match_unrolled_autograd(first_order: bool) -> None:
    p = start()
    x, y, query, target = (t[0] for t in data())
    ours = descend(cross_entropy, p, x, y, steps=4, lr=0.3, first_order=first_order)
    reference = unrolled(p, x, y, 4, 0.3, create_graph=not first_order)
    assert_same(ours, reference)
    assert_same(gradient_of(cross_entropy(ours, query, target), p), gradient_of(cross_entropy(reference, query, target), p))


def test_first_order_gradient_is_that_of_the_query_loss_at_the_adapted_weights() -> None:
    p = start()
    total = {name: torch.zeros_like(value) for name, value in p.items()}
    for x, y, query, target in zip(*data(), strict=True):
        there = {name: v.detach().requires_grad_() for name, v in unrolled(p, x, y, 3, 0.4, create_graph=False).items()}
        for name, g in gradient_of(cross_entropy(there, query, target), there).items():
            total[name] += g / E
    found = gradient_of(meta_loss(p, first_order=True), p)
    assert_same(found, total)
    second = gradient_of(meta_loss(p), p)
    assert max(float((second[n] - found[n]).abs().max()) for n in p) > 1e-3  # the two orders are not the same thing


def test_descent_of_a_quadratic_and_its_derivative_have_the_closed_form() -> None:
    begin, goal, curvature, steps, lr = torch.tensor(2.0, dtype=torch.float64, requires_grad=True), 0.5, 1.7, 6, 0.3
    for first_order, slope in ((False, (1 - lr * curvature) ** steps), (True, 1.0)):
        found = descend(
            lambda p: 0.5 * curvature * (p["x"] - goal) ** 2, {"x": begin}, steps=steps, lr=lr, first_order=first_order
        )["x"]  # fmt: skip
        assert found.item() == pytest.approx(goal + (1 - lr * curvature) ** steps * (2 - goal), rel=1e-12)
        assert torch.autograd.grad(found, begin)[0].item() == pytest.approx(slope, rel=1e-12)


@pytest.mark.parametrize("at_once", [False, True])
def test_no_step_is_the_plain_loss(at_once: bool) -> None:
    p = start()
    _, _, query, target = data()
    plain = F.cross_entropy(logits(p, query.flatten(0, 1)), target.flatten())
    ours = meta_loss(p, steps=0, at_once=at_once)
    torch.testing.assert_close(ours, plain)
    assert_same(gradient_of(ours, p), gradient_of(plain, p))


@pytest.mark.parametrize("first_order", [False, True])
def test_tasks_at_once_equal_tasks_one_after_another(first_order: bool) -> None:
    p = start()
    losses = [meta_loss(p, first_order=first_order, at_once=at_once) for at_once in (False, True)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=0)
    assert_same(gradient_of(losses[1], p), gradient_of(losses[0], p))


def test_descent_works_without_an_outer_graph_and_leaves_the_start_alone() -> None:
    p = start()
    before = copy.deepcopy(p)
    x, y, *_ = (t[0] for t in data())
    with torch.no_grad():
        found = descend(cross_entropy, p, x, y, steps=3, lr=0.4)
    assert not any(value.requires_grad for value in found.values())
    assert_same(found, descend(cross_entropy, p, x, y, steps=3, lr=0.4))
    assert_same(p, before, 0.0)


def linear_data() -> dict[str, Any]:
    support, labels, query, _ = data()
    return {"support": support, "query": query, "weight": noise(20, W, D), "bias": noise(21, W), "hot": F.one_hot(labels, W).double()}


def sgd_scores(support: Tensor, hot: Tensor, query: Tensor, weight: Tensor, bias: Tensor, *, steps: int, lr: float) -> Tensor:
    """torch's own SGD on one episode after the other."""
    scores = []
    for s, h, q in zip(support, hot, query, strict=True):
        w, b = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        optimizer = torch.optim.SGD([w, b], lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(F.linear(s, w, b), h.argmax(1)).backward()
            optimizer.step()
        scores.append(F.linear(q, w, b).detach())
    return torch.stack(scores)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_linear_scores_equal_sgd_on_each_episode(steps: int) -> None:
    given = linear_data()
    torch.testing.assert_close(
        linear_scores(**given, steps=steps, lr=0.3), sgd_scores(**given, steps=steps, lr=0.3), rtol=1e-10, atol=1e-12
    )
    single = linear_scores(**{name: value.float() for name, value in given.items()}, steps=steps, lr=0.3)
    torch.testing.assert_close(single.double(), linear_scores(**given, steps=steps, lr=0.3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first_order", [False, True])
def test_derivatives_of_linear_scores_equal_those_of_unrolled_steps(first_order: bool) -> None:
    given = linear_data()
    inputs = {name: given[name].requires_grad_() for name in ("support", "query", "weight", "bias")}
    _, _, _, target = data()
    ours = F.cross_entropy(linear_scores(**given, steps=4, lr=0.3, first_order=first_order).flatten(0, 1), target.flatten())
    rows = []
    for support, hot, query in zip(given["support"], given["hot"], given["query"], strict=True):
        w, b = given["weight"], given["bias"]
        for _ in range(4):
            inner = F.cross_entropy(F.linear(support, w, b), hot.argmax(1))
            gw, gb = torch.autograd.grad(inner, (w, b), create_graph=not first_order)
            w, b = w - 0.3 * gw, b - 0.3 * gb
        rows.append(F.linear(query, w, b))
    reference = F.cross_entropy(torch.cat(rows), target.flatten())
    torch.testing.assert_close(ours, reference)
    found = torch.autograd.grad(ours, list(inputs.values()), allow_unused=True)
    expected = torch.autograd.grad(reference, list(inputs.values()), allow_unused=True)
    for name, a, b in zip(inputs, found, expected, strict=True):
        if first_order and name == "support":
            assert a is None, "the steps are constants, and nothing else sees the support"
            assert b is None
        else:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=about(name))


@pytest.mark.parametrize("first_order", [False, True])
def test_learn2learn_adapts_alike(first_order: bool) -> None:
    learn2learn = pytest.importorskip("learn2learn", reason="learn2learn is optional: see requirements-l2l.txt")
    p = start()
    module = nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, W)).double()
    module.load_state_dict({name: value.detach() for name, value in p.items()})
    maml = learn2learn.algorithms.MAML(module, lr=0.4, first_order=first_order)
    losses = []
    for x, y, query, target in zip(*data(), strict=True):
        learner = maml.clone()
        for _ in range(3):
            learner.adapt(F.cross_entropy(learner(x), y))
        ours = descend(cross_entropy, p, x, y, steps=3, lr=0.4, first_order=first_order)
        assert_same(ours, dict(learner.module.named_parameters()) or dict(zip(p, learner.parameters(), strict=True)))
        losses.append(F.cross_entropy(learner(query), target))
    reference = torch.stack(losses).mean()
    reference.backward()
    loss = meta_loss(p, first_order=first_order)
    torch.testing.assert_close(loss, reference)
    assert_same(gradient_of(loss, p), {name: value.grad for name, value in module.named_parameters() if value.grad is not None})
