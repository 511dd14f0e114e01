"""The training methods MAML and ANIL, and the head anil that continues what they trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.conv4 import Conv4
from kinshot.fewshot.evaluate import build_head
from kinshot.fewshot.inner_loop import linear_scores
from kinshot.fewshot.methods.maml import MAML
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.samples.pixels import PixelSpec
from tests.steps import loss_of as step_of
from tests.steps import model_of

W, K, Q, T = 3, 2, 4, 2
CLASSES, EACH, SIDE = 6, 8, 16
STATISTICS = ("batch", "running")
WAYS_OF_ADAPTING = [("maml", {}), ("maml", {"adapt": "head"}), ("anil", {})]
every_method = pytest.mark.parametrize(
    ("name", "settings"), WAYS_OF_ADAPTING, ids=lambda v: v if isinstance(v, str) else str(v or "default")
)
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
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(36, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def smooth() -> Smooth:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Smooth()


def head_of(dim: int, seed: int = 7) -> dict[str, Tensor]:
    return {"weight": noise(seed, W, dim).double(), "bias": noise(seed + 1, W).double()}


def data(side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Images (N, 1, side, side) that carry their class in a pattern, and the classes."""
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    return noise(8, CLASSES, 1, side, side)[labels] + 0.7 * noise(9, CLASSES * EACH, 1, side, side), labels


def conv4() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Conv4(PixelSpec.square(1, SIDE, (0.0,), (1.0,)), width=8)


def build(name: str, seed: int = 0, encoder: nn.Module | None = None, **settings: Any) -> Method:
    given = {"ways": W, "shots": K, "queries": Q, "tasks": T, "inner_steps": 2, "inner_lr": 0.1, **settings}
    batch = given["tasks"] * given["ways"] * (given["shots"] + given["queries"])
    context = RunContext(num_samples=CLASSES * EACH, batch_size=batch, steps_per_epoch=4, total_steps=40, seed=seed, labels=data()[1])
    return METHODS.build(name, model_of(encoder or conv4()), context, settings=given).train()


def loss_of(method: Method, indices: Tensor) -> dict[str, Tensor]:
    return step_of(method, [data()[0][indices]], indices, 0)


def batch_of(method: Method, step: int) -> Tensor:
    if method.order is None:
        raise TypeError("an episodic method has an order")
    return method.order(step // 4)[step % 4]


def gradients(method: Method, indices: Tensor) -> dict[str, Tensor]:
    method.zero_grad()
    loss_of(method, indices)["loss"].backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


@every_method
@every_statistics
@pytest.mark.parametrize("first_order", [False, True])
def test_every_weight_learns(name: str, settings: dict[str, Any], statistics: str, first_order: bool) -> None:
    method = build(name, **settings, statistics=statistics, first_order=first_order)
    found = gradients(method, batch_of(method, 0))
    assert found.keys() == dict(method.named_parameters()).keys()
    assert all(torch.isfinite(g).all() and g.abs().sum() > 0 for g in found.values())


@every_method
@every_statistics
def test_training_lowers_the_query_loss(name: str, settings: dict[str, Any], statistics: str) -> None:
    method = build(name, encoder=smooth(), **settings, statistics=statistics)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    images = data(8)[0]
    losses, accuracies = [], []
    for step in range(24):
        indices = batch_of(method, step)
        terms = step_of(method, [images[indices]], indices, step)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
        accuracies.append(terms["accuracy"].item())
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert sum(accuracies[-4:]) > sum(accuracies[:4])


@every_method
@every_statistics
def test_order_of_the_tasks_does_not_matter(name: str, settings: dict[str, Any], statistics: str) -> None:
    one, other = (build(name, **settings, statistics=statistics) for _ in range(2))
    indices = batch_of(one, 0)
    turned = indices.view(T, -1).flip(0).flatten()
    found, expected = gradients(other, turned), gradients(one, indices)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=about(key))


@every_method
@every_statistics
def test_running_statistics_follow_the_start_once_a_step(name: str, settings: dict[str, Any], statistics: str) -> None:
    method = build(name, **settings, statistics=statistics)
    plain = copy.deepcopy(method.encoder)
    indices = batch_of(method, 0)
    loss_of(method, indices)["loss"].backward()
    with torch.no_grad():
        plain(data()[0][indices])
    for (key, ours), reference in zip(method.encoder.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, reference, msg=about(key))
    assert all(module.training for module in method.encoder.modules())
    assert all(module.fused for module in method.encoder.modules() if hasattr(module, "fused"))


@every_method
def test_evaluation_mode_moves_no_statistics(name: str, settings: dict[str, Any]) -> None:
    method = build(name, **settings, statistics="running").eval()
    before = copy.deepcopy(method.state_dict())
    loss_of(method, batch_of(method, 0))
    assert [key for key, value in method.state_dict().items() if not torch.equal(value, before[key])] == []


@every_method
def test_without_steps_the_loss_is_that_of_the_start(name: str, settings: dict[str, Any]) -> None:
    method = build(name, **settings, statistics="running", inner_steps=0).eval()
    images, labels = data()
    indices = batch_of(method, 0)
    query = indices.view(T, W, K + Q)[:, :, K:]
    logits = method.network(method.encoder(images[query.flatten()]))  # type: ignore[operator]
    expected = F.cross_entropy(logits, torch.arange(W).repeat_interleave(Q).repeat(T))
    torch.testing.assert_close(loss_of(method, indices)["loss"], expected)
    assert labels[query][:, :, 0].unique(dim=1).shape[1] == W


def test_anil_is_maml_that_adapts_the_head() -> None:
    one, other = build("anil"), build("maml", adapt="head")
    assert one.state_dict().keys() == other.state_dict().keys()
    a, b = (gradients(method, batch_of(one, 0)) for method in (one, other))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_starting_head_is_drawn_from_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    heads = [build("maml", seed=seed).network for seed in (0, 0, 1)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(isinstance(head, nn.Linear) and head.weight.shape == (W, 8) for head in heads)
    weights = [next(head.parameters()) for head in heads]  # type: ignore[union-attr]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@every_method
def test_loss_is_float32_under_autocast(name: str, settings: dict[str, Any]) -> None:
    method = build(name, **settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss_of(method, batch_of(method, 0))
    assert terms["loss"].dtype == torch.float32
    terms["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["maml", "anil"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [({"inner_steps": -1}, "inner_steps"), ({"inner_lr": 0.0}, "inner_lr"), ({"ways": 1}, "ways"), ({"statistics": "none"}, "statistics")],
)
def test_bad_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **settings)


def test_a_batch_of_another_size_is_refused() -> None:
    context = RunContext(num_samples=48, batch_size=7, steps_per_epoch=1, total_steps=1, seed=0, labels=data()[1])
    with pytest.raises(ConfigError, match="batch_size"):
        MAML(model_of(Smooth()), context, ways=W, shots=K, queries=Q)


# The head


def features() -> tuple[Tensor, Tensor, Tensor]:
    return noise(12, T, W * K, 5).double(), torch.arange(W * K).remainder(W).expand(T, -1), noise(13, T, Q, 5).double()


def test_head_is_sgd_on_each_episode_from_the_trained_start() -> None:
    support, labels, query = features()
    network = head_of(5)
    ours = build_head("anil", {"inner_steps": 6, "inner_lr": 0.2}, network=network)(support, labels, query, W)
    for e in range(T):
        linear = nn.Linear(5, W, dtype=torch.float64)
        linear.load_state_dict(network)
        optimizer = torch.optim.SGD(linear.parameters(), lr=0.2)
        for _ in range(6):
            optimizer.zero_grad()
            F.cross_entropy(linear(support[e]), labels[e]).backward()
            optimizer.step()
        torch.testing.assert_close(ours[e], linear(query[e]).detach(), rtol=1e-10, atol=1e-12)


def test_head_continues_what_the_method_trained() -> None:
    method = build("anil", statistics="running").eval()
    images, _ = data()
    indices = batch_of(method, 0).view(T, W, K + Q)
    with torch.no_grad():
        z = method.encoder(images[indices.flatten()]).view(T, W, K + Q, -1)
        support, query = z[:, :, :K].flatten(1, 2), z[:, :, K:].flatten(1, 2)
        head = build_head("anil", {"inner_steps": 2, "inner_lr": 0.1}, network=dict(method.network.named_parameters()))  # type: ignore[union-attr]
        scores = head(support, torch.arange(W).repeat_interleave(K).expand(T, -1), query, W)
        loss = F.cross_entropy(scores.flatten(0, 1), torch.arange(W).repeat_interleave(Q).repeat(T))
        torch.testing.assert_close(loss, loss_of(method, indices.flatten())["loss"])


def test_head_without_steps_scores_with_its_start() -> None:
    support, labels, query = features()
    network = head_of(5)
    scores = build_head("anil", {"inner_steps": 0}, network=network)(support, labels, query, W)
    torch.testing.assert_close(scores, query @ network["weight"].T + network["bias"])
    hot = F.one_hot(labels, W).double()
    moved = linear_scores(support, hot, query, network["weight"], network["bias"], steps=1, lr=0.2)
    assert not torch.allclose(moved, scores, atol=1e-3)


@pytest.mark.parametrize(
    ("network", "ways", "error", "message"),
    [
        (None, W, ConfigError, "fewshot train"),
        (head_of(5), 2, ConfigError, "3 ways.*2"),
        ({"weight": noise(0, W, 5)}, W, DataError, "bias"),
        ({**head_of(5), "scale": noise(0, 1)}, W, DataError, "scale"),
        ({"weight": noise(0, W, 5), "bias": noise(0, 2)}, W, DataError, r"\(2,\)"),
        (head_of(4), W, DataError, "4 wide.*5 wide"),
    ],
)
def test_head_refuses_a_start_that_does_not_fit(network: Any, ways: int, error: type[Exception], message: str) -> None:
    support, labels, query = features()
    with pytest.raises(error, match=message):
        build_head("anil", network=network)(support, labels.remainder(ways), query, ways)


@pytest.mark.parametrize("settings", [{"inner_steps": -1}, {"inner_lr": 0.0}])
def test_head_refuses_bad_settings(settings: dict[str, Any]) -> None:
    support, labels, query = features()
    with pytest.raises(ConfigError, match=next(iter(settings))):
        build_head("anil", settings, network=head_of(5))(support, labels, query, W)
