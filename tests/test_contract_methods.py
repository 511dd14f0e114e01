"""What every registered pretraining method must keep to, with a tiny encoder of our own."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from kinshot.core.errors import ConfigError
from kinshot.ssl import METHODS
from kinshot.ssl.base import MethodContext

N, B = 48, 8
VARIANTS = {
    "moco": [{"symmetric": True, "queue": 16}, {"bn_splits": 2}],
    "interclr": [
        {"intra": "simclr"},
        {"share_neck": False},
        {"share_neck": False, "intra": "simclr", "exclude_self": True},
        {"labels": "offline"},
        {"positives": "neighbors", "neighbors": 3},
        {"sampler": "hard", "clusters": 4},
        {"sampler": "random", "margin": "arc"},
        {"sampler": "semi_easy", "margin": "none", "min_cluster": 6, "clusters": 4},
        {"bank_momentum": 0.5, "centroid_interval": 1, "min_cluster": 6, "clusters": 6, "bank_fraction": 0.5},
    ],
}


def cases():
    found = [(name, settings) for name in METHODS.names() for settings in [{}, *VARIANTS.get(name, [])]]
    return [pytest.param(*case, id=case[0] + "".join(f"-{k}={v}" for k, v in case[1].items())) for case in found]


every_method = pytest.mark.parametrize(("name", "settings"), cases())


class TinyEncoder(nn.Module):
    dim = 12

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 12))

    def forward(self, x):
        return self.layers(x)


def images(indices, step):
    base = torch.randn(N, 3, 8, 8, generator=torch.Generator().manual_seed(5))[indices]
    return [base + 0.3 * torch.randn(base.shape, generator=torch.Generator().manual_seed(100 + 2 * step + v)) for v in range(2)]


def build(name, settings, batch=B, samples=N, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = TinyEncoder()
        projector = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
    context = MethodContext(num_samples=samples, batch_size=batch, steps_per_epoch=samples // batch, total_steps=100, seed=seed)
    return METHODS.build(name, encoder, projector, context, settings=settings)


def extractor(method, samples=N):
    def extract(head=None):
        with torch.no_grad():
            training = method.training
            method.eval()
            found = (head or method.projector)(method.encoder(images(torch.arange(samples), 0)[0])).float()
            method.train(training)
        return found

    return extract


def batch_of(step, batch=B):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(step // 6))
    return order[(step % 6) * batch :][:batch]


def optimizer_of(method, lr=0.02):
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def train(method, optimizer, first, last):
    losses = []
    for step in range(first, last):
        if step % 6 == 0:
            method.start_epoch(step // 6, extractor(method))
        indices = batch_of(step)
        terms = method.loss(images(indices, step), indices, step)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        method.after_step(step)
        losses.append(terms["loss"].item())
    return losses


def started(name, settings, **more):
    method = build(name, settings, **more)
    method.train()
    method.prepare(extractor(method))
    method.start_epoch(0, extractor(method))
    return method


@every_method
def test_loss_is_a_finite_scalar_that_reaches_every_parameter(name, settings):
    method = started(name, settings)
    terms = method.loss(images(torch.arange(B), 0), torch.arange(B), 0)
    assert terms["loss"].dim() == 0
    assert terms["loss"].dtype == torch.float32
    assert all(bool(torch.isfinite(v)) for v in terms.values())
    terms["loss"].backward()
    trained = [*method.encoder.named_parameters(), *method.projector.named_parameters()]
    assert trained
    assert [n for n, p in trained if p.grad is None] == []
    assert sum(p.grad.abs().sum() for _, p in trained) > 0
    gauges = method.after_step(0)
    assert all(math.isfinite(float(v)) for v in gauges.values())


@every_method
def test_loss_falls_on_a_fixed_batch(name, settings):
    method = started(name, settings)
    optimizer = optimizer_of(method)
    losses = []
    for _ in range(15):
        # the state that follows a step stands still: a queue would fill with the very batch it repels
        terms = method.loss(images(torch.arange(B), 0), torch.arange(B), 0)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < losses[0] - 1e-3


@every_method
def test_restored_state_continues_bit_for_bit(name, settings):
    method = started(name, settings)
    optimizer = optimizer_of(method)
    train(method, optimizer, 0, 3)
    state, momenta = copy.deepcopy(method.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = train(method, optimizer, 3, 8)
    again = build(name, settings)
    again.train()
    again.load_state_dict(state)
    optimizer = optimizer_of(again)
    optimizer.load_state_dict(momenta)
    torch.manual_seed(999)
    assert train(again, optimizer, 3, 8) == expected
    final = again.state_dict()
    assert [k for k, v in method.state_dict().items() if not torch.equal(v, final[k])] == []


@every_method
def test_runs_with_one_seed_agree_whatever_the_global_generator_says(name, settings):
    runs = []
    for noise in (1, 2):
        method = started(name, settings)
        torch.manual_seed(noise)
        state = torch.random.get_rng_state()
        runs.append(train(method, optimizer_of(method), 0, 4))
        assert torch.equal(state, torch.random.get_rng_state())
    assert runs[0] == runs[1]


@every_method
def test_a_step_without_after_step_leaves_only_running_statistics(name, settings):
    method = started(name, settings)
    before = copy.deepcopy(method.state_dict())
    method.loss(images(torch.arange(B), 0), torch.arange(B), 0)
    changed = [k for k, v in method.state_dict().items() if not torch.equal(v, before[k])]
    assert [k for k in changed if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))] == []


@every_method
def test_batch_of_two_works_or_is_refused(name, settings):
    try:
        method = started(name, settings, batch=2)
    except ConfigError:
        return
    loss = method.loss(images(torch.arange(2), 0), torch.arange(2), 0)["loss"]
    assert torch.isfinite(loss)
    loss.backward()
    method.after_step(0)


@every_method
def test_loss_is_float32_under_autocast(name, settings):
    method, twin = started(name, settings), started(name, settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(images(torch.arange(B), 0), torch.arange(B), 0)["loss"]
    assert loss.dtype == torch.float32
    loss.backward()
    method.after_step(0)
    plain = twin.loss(images(torch.arange(B), 0), torch.arange(B), 0)["loss"]
    assert loss.item() == pytest.approx(plain.item(), rel=0.1, abs=0.1)


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_says_where_it_comes_from_and_explains_its_settings(name):
    entry = METHODS.entry(name)
    assert "Paper:" in entry.docstring
    assert entry.summary.endswith(".")
    assert [p.name for p in entry.parameters.values() if not p.help] == []
