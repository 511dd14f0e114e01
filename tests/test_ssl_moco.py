"""The key queue and the key networks."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.momentum import KeyNetwork, follow_
from kinshot.encoders.queue import KeyQueue, embedding_dim, queue_length
from kinshot.objectives.common import unit
from kinshot.objectives.info_nce import key_info_nce
from kinshot.ssl.methods.moco import MoCo
from tests.steps import loss_of, model_of

CONTEXT = RunContext(num_samples=32, batch_size=8, steps_per_epoch=4, total_steps=8, seed=3)


def moco(**chosen):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6))
    return MoCo(model_of(encoder, nn.Linear(6, 4)), CONTEXT, **chosen)


def views(step=0):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(8, 3, 2, 2, generator=generator) for _ in range(2)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_queue_is_the_last_keys_in_a_ring(length, batches):
    queue, ring, place, value = KeyQueue(length, 1), {}, 0, 0.0
    before = queue.keys.clone()
    for batch in batches:
        keys = torch.arange(batch).float()[:, None] + value
        for k in keys:
            ring[place] = k.item()
            place = (place + 1) % length
        value += batch
        queue.enqueue_(keys)
    expected = [ring.get(i, before[i].item()) for i in range(length)]
    assert queue.keys.flatten().tolist() == expected
    assert int(queue.pointer) == place


def test_queue_starts_with_keyed_unit_rows():
    a, b, c = KeyQueue(9, 5, seed=1), KeyQueue(9, 5, seed=1), KeyQueue(9, 5, seed=2)
    torch.testing.assert_close(a.keys.norm(dim=1), torch.ones(9))
    assert torch.equal(a.keys, b.keys)
    assert not torch.equal(a.keys, c.keys)


def test_queue_length_is_a_multiple_of_the_batch():
    assert [queue_length(n, 8) for n in (1, 8, 15, 16, 4096)] == [8, 8, 8, 16, 4096]
    with pytest.raises(ConfigError, match="queue"):
        queue_length(0, 8)


def test_embedding_dim_of_heads_with_and_without_linear_layers():
    encoder = nn.Identity()
    encoder.dim = 11  # type: ignore[assignment]
    assert embedding_dim(encoder, nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))) == 5
    assert embedding_dim(encoder, nn.Identity()) == 11


def test_follow_moves_parameters_and_leaves_buffers():
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.constant_(a.weight, 2.0)
    nn.init.constant_(b.weight, 4.0)
    b.running_mean.fill_(7.0)
    follow_(a, b, 0.75)
    assert a.weight.tolist() == [2.5] * 3
    assert b.weight.tolist() == [4.0] * 3
    assert a.running_mean.tolist() == [0.0] * 3


def test_split_keys_are_those_of_shuffled_parts_in_batch_order():
    network = KeyNetwork(nn.Identity(), [nn.BatchNorm1d(2)], momentum=0.9, splits=2, batch_size=8, seed=0)
    x = torch.randn(8, 2)
    keys = network(x, step=5)
    plain = KeyNetwork(nn.Identity(), [nn.BatchNorm1d(2)], momentum=0.9, splits=1, batch_size=8, seed=0)(x, step=5)
    assert not torch.allclose(keys, plain)
    assert torch.equal(keys, network(x, step=5))
    assert not torch.equal(keys, network(x, step=6))
    linear = KeyNetwork(nn.Identity(), [nn.Linear(2, 2)], momentum=0.9, splits=3, batch_size=8, seed=0)
    torch.testing.assert_close(linear(x, step=1), linear.heads[0](x).detach())


def test_loss_is_info_nce_against_the_queue():
    method = moco(queue=16, temperature=0.3)
    v = views()
    twin = copy.deepcopy(method)
    query = twin.projector(twin.encoder(v[0]))
    key = twin.key.heads[0](twin.key.encoder(v[1]))
    expected = key_info_nce(query, key, twin.queue.keys, 0.3)
    assert loss_of(method, v, torch.arange(8), 0)["loss"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_symmetric_loss_is_the_mean_of_both_directions_and_enqueues_both():
    one, two, both = moco(), moco(), moco(symmetric=True)
    v = views()
    a, b = loss_of(one, v, torch.arange(8), 0)["loss"], loss_of(two, v[::-1], torch.arange(8), 0)["loss"]
    loss = loss_of(both, v, torch.arange(8), 0)["loss"]
    assert loss.item() == pytest.approx((a + b).item() / 2, abs=1e-6)
    both.after_step(0)
    assert int(both.queue.pointer) == 16


def test_state_moves_in_after_step_only():
    method = moco(queue=16, key_momentum=0.5)
    before = copy.deepcopy(method.state_dict())
    loss_of(method, views(), torch.arange(8), 0)
    for name in ("queue.keys", "queue.pointer", "key.encoder.1.weight"):
        assert torch.equal(before[name], method.state_dict()[name])
    keys = method._keys
    with torch.no_grad():
        method.encoder[1].weight.add_(1.0)
    method.after_step(0)
    assert torch.equal(method.queue.keys[:8], keys)
    torch.testing.assert_close(keys, unit(keys))
    torch.testing.assert_close(method.key.encoder[1].weight, before["key.encoder.1.weight"] + 0.5)


def test_keys_take_no_gradient():
    method = moco()
    loss_of(method, views(), torch.arange(8), 0)["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in method.key.parameters())


def test_prepare_synchronizes_keys_with_weights_loaded_later():
    method = moco()
    with torch.no_grad():
        method.projector.weight.fill_(0.5)
    method.prepare(lambda head=None: torch.zeros(32, 4))
    assert torch.equal(method.key.heads[0].weight, method.projector.weight)


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"key_momentum": 1.5}, {"queue": -1}, {"bn_splits": 5}, {"bn_splits": 0}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        moco(**bad)
