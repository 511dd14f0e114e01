"""The adaptation of whole networks to episodes, against torch's own SGD and unrolled autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders.conv4 import Conv4
from kinshot.encoders.text_transformer import TextTransformer
from kinshot.fewshot.adaptation import Adaptation, Statistics, maml_scores, normalised_by, unfused
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.tokens import TokenSpec

W, K, Q, T = 3, 2, 4, 2
STATISTICS = ("batch", "running")
every_statistics = pytest.mark.parametrize("statistics", STATISTICS)


def about(name: str) -> Callable[[str], str]:
    """A message of `assert_close` that says which tensor it is about."""
    return lambda message: f"{name}: {message}"


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Smooth(nn.Module):
    """A tiny encoder with batch normalisation and no kink, for gradients that can be compared closely."""

    dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Linear(36, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.norm(self.conv(x))).flatten(1))


def smooth(dtype: torch.dtype = torch.float64) -> Smooth:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = Smooth().to(dtype)
    with torch.no_grad():
        for _ in range(5):  # running statistics that are not those of a fresh network
            encoder(2 * noise(4, 8, 1, 8, 8).to(dtype) + 0.5)
    return encoder


def episodes() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support (T, W*K, ...), its ways in any order, query, its ways, float64."""
    labels = torch.stack([torch.arange(W * K) % W, torch.arange(W * K) // K])
    return noise(5, T, W * K, 1, 8, 8).double(), labels, noise(6, T, Q, 1, 8, 8).double(), torch.arange(Q).remainder(W).expand(T, -1)


def head_of(dim: int, seed: int = 7) -> dict[str, Tensor]:
    return {"weight": noise(seed, W, dim).double(), "bias": noise(seed + 1, W).double()}


def by_sgd(encoder: nn.Module, network: dict[str, Tensor], statistics: Statistics, steps: int, lr: float) -> Tensor:
    """Copies of the network, each trained on one episode by torch's SGD."""
    support, labels, query, _ = episodes()
    scores = []
    for x, y, asked in zip(support, labels, query, strict=True):
        own, linear = copy.deepcopy(encoder), nn.Linear(network["weight"].shape[1], W, dtype=torch.float64)
        linear.load_state_dict(network)
        own.train(statistics == "batch")
        optimizer = torch.optim.SGD([*own.parameters(), *linear.parameters()], lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(linear(own(x)), y).backward()
            optimizer.step()
        scores.append(linear(own(asked)).detach())
    return torch.stack(scores)


@every_statistics
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_network_adapts_as_under_sgd_and_is_left_alone(statistics: Statistics, at_once: bool, training: bool) -> None:
    encoder, network = smooth().train(training), head_of(6)
    support, labels, query, _ = episodes()
    before = copy.deepcopy(encoder.state_dict())
    how = Adaptation(4, 0.1, statistics=statistics)
    with torch.no_grad():
        ours = maml_scores(encoder, network, support, labels, query, W, how, at_once=at_once)
    torch.testing.assert_close(ours, by_sgd(encoder, network, statistics, 4, 0.1), rtol=1e-9, atol=1e-11)
    assert [name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])] == []
    assert {module.training for module in encoder.modules()} == {training}
    assert all(module.track_running_stats for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))


class Tied(nn.Module):
    """One weight in two modules, and one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 6)
        self.second.weight = self.first.weight
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.again(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))))


def test_tied_weights_stay_tied_and_shared_modules_whole() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, network = Tied().double(), head_of(6)
    support, labels, query, _ = episodes()
    before = {name: (id(value), value.detach().clone()) for name, value in encoder.named_parameters(remove_duplicate=False)}
    ours = maml_scores(encoder, network, support, labels, query, W, Adaptation(4, 0.1)).detach()
    torch.testing.assert_close(ours, by_sgd(encoder, network, "batch", 4, 0.1), rtol=1e-9, atol=1e-11)
    after = dict(encoder.named_parameters(remove_duplicate=False))
    assert {name: id(value) for name, value in after.items()} == {name: known for name, (known, _) in before.items()}
    assert all(torch.equal(value, before[name][1]) for name, value in after.items())


@every_statistics
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_of_a_network_matches_unrolled_autograd(statistics: Statistics, first_order: bool) -> None:
    encoder, network = smooth(), {name: value.requires_grad_() for name, value in head_of(6).items()}
    support, labels, query, target = episodes()
    start = {**dict(encoder.named_parameters()), **network}
    scores = maml_scores(encoder, network, support, labels, query, W, Adaptation(3, 0.1, first_order, statistics))
    found = torch.autograd.grad(F.cross_entropy(scores.flatten(0, 1), target.flatten()), list(start.values()))

    def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
        y = F.conv2d(x, p["conv.weight"], p["conv.bias"], stride=2)
        norm = encoder.norm
        mean, var = dict(norm.named_buffers())["running_mean"], dict(norm.named_buffers())["running_var"]
        if statistics == "batch":
            mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
        y = (y - mean[:, None, None]) / (var[:, None, None] + norm.eps).sqrt()
        y = torch.tanh(y * p["norm.weight"][:, None, None] + p["norm.bias"][:, None, None])
        return F.linear(F.linear(y.flatten(1), p["out.weight"], p["out.bias"]), p["weight"], p["bias"])

    rows = []
    for x, y, asked in zip(support, labels, query, strict=True):
        p = dict(start)
        for _ in range(3):
            slopes = torch.autograd.grad(F.cross_entropy(plain(p, x), y), list(p.values()), create_graph=not first_order)
            p = {name: value - 0.1 * g for (name, value), g in zip(p.items(), slopes, strict=True)}
        rows.append(plain(p, asked))
    expected = torch.autograd.grad(F.cross_entropy(torch.cat(rows), target.flatten()), list(start.values()))
    for name, a, b in zip(start, found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11, msg=about(name))


@every_statistics
def test_queries_see_each_other_through_the_batch_alone(statistics: Statistics) -> None:
    encoder, network = smooth(), head_of(6)
    support, labels, query, _ = episodes()
    how = Adaptation(2, 0.1, statistics=statistics)
    with torch.no_grad():
        together = maml_scores(encoder, network, support, labels, query, W, how)
        apart = torch.cat([maml_scores(encoder, network, support, labels, q, W, how) for q in query.split(2, dim=1)], dim=1)
    assert torch.allclose(together, apart, atol=1e-10) == (statistics == "running")


@every_statistics
def test_all_episodes_at_once_have_the_first_order_gradient(statistics: Statistics) -> None:
    encoder, network = smooth(), head_of(6)
    support, labels, query, _ = episodes()
    found = []
    for at_once in (False, True):
        scores = maml_scores(encoder, network, support, labels, query, W, Adaptation(3, 0.1, True, statistics), at_once=at_once)
        found.append(torch.autograd.grad(scores.square().sum(), list(encoder.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_second_derivatives_are_not_batched_over_episodes() -> None:
    support, labels, query, _ = episodes()
    with pytest.raises(ConfigError, match="at_once"):
        maml_scores(smooth(), head_of(6), support, labels, query, W, Adaptation(1), at_once=True)


def test_attention_is_differentiated_twice() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = TextTransformer(TokenSpec(7, "abcd"), width=8, layers=1, heads=2).double()
    network = {"weight": noise(1, 2, 8).double(), "bias": torch.zeros(2, dtype=torch.float64)}
    texts = torch.randint(3, 7, (2, 4, 7), generator=torch.Generator().manual_seed(2))
    labels = torch.arange(4).remainder(2).expand(2, -1)

    def loss() -> Tensor:
        return maml_scores(encoder, network, texts, labels, texts.flip(1), 2, Adaptation(2, 0.1)).square().sum()

    gradient = torch.autograd.grad(loss(), encoder.positions)[0]
    with torch.no_grad():
        for place in ((0, 0), (3, 5)):
            values = []
            for sign in (1, -1):
                encoder.positions[place] += sign * 1e-6
                values.append(loss().item())
                encoder.positions[place] -= sign * 1e-6
            assert gradient[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-6)


def test_conv4_takes_the_path_that_can_be_differentiated_twice_and_gets_its_own_back() -> None:
    encoder = Conv4(PixelSpec.square(1, 16, (0.0,), (1.0,)), width=4)
    network = {"weight": noise(1, 2, 4), "bias": torch.zeros(2)}
    images, labels = noise(2, 1, 6, 1, 16, 16), torch.arange(6).remainder(2)[None]
    scores = maml_scores(encoder, network, images, labels, images, 2, Adaptation(1, 0.1))
    scores.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())
    assert all(module.fused for module in encoder.modules() if hasattr(module, "fused"))


def test_what_was_switched_off_comes_back_after_an_error() -> None:
    encoder = Conv4(PixelSpec.square(1, 16, (0.0,), (1.0,)), width=4)

    def switches() -> list[tuple[Any, ...]]:
        return [tuple(getattr(m, name, None) for name in ("training", "fused", "track_running_stats")) for m in encoder.modules()]

    def fail() -> None:
        with unfused(encoder), normalised_by(encoder, "batch"):
            assert not any(fused or track for _, fused, track in switches())
            raise ArithmeticError

    before = switches()
    with pytest.raises(ArithmeticError):
        fail()
    assert switches() == before
