"""InterCLR: the whole iteration against float64 loops, and the method's own timetable."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError, DataError, DivergedError, KinshotError
from kinshot.core.rng import keyed_generator
from kinshot.encoders.queue import KeyQueue
from kinshot.objectives.common import unit
from kinshot.ssl.interclr.settings import StepSettings, scaled_sizes
from kinshot.ssl.interclr.step import advance_, choose, inter_loss, iteration
from kinshot.ssl.methods.interclr import InterCLR
from tests import reference_interclr as ref
from tests.banks import arrays, generator, make_bank, rows
from tests.steps import loss_of, model_of


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize(("kind", "value"), [("cosine", -0.5), ("arc", 0.3), ("none", 0.0)])
def test_inter_loss_equals_loops_with_given_indices(kind, value, dtype, tolerance):
    bank, query = make_bank(), rows(6, 5, seed=2)
    positives = torch.randint(0, 60, (6,), generator=generator(1))
    negatives = torch.randint(0, 60, (6, 15), generator=generator(2))
    weights = torch.tensor([1.0, 0, 1, 1, 1, 1], dtype=dtype)
    expected = ref.inter_loss(
        query.numpy(), bank.features.numpy(), positives.tolist(), negatives.tolist(), 0.2, kind, value, weights.tolist()
    )
    loss = inter_loss(
        query.to(dtype), bank.features.to(dtype), positives, negatives, temperature=0.2, margin=kind, margin_value=value, weights=weights
    )
    assert loss.item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
@pytest.mark.parametrize("sampler", ["hard", "semi_hard"])
def test_iterations_equal_loops(sampler, dtype, tolerance):
    bank, queue = make_bank(sizes=[20, 20, 14, 6]).to(dtype), KeyQueue(12, 5).to(dtype)
    chosen = StepSettings(
        negatives=7, pool=12, min_cluster=6, sampler=sampler, bank_momentum=0.5, centroid_interval=2, repair_starts="size"
    )
    for step in range(4):
        q, k = rows(8, 5, seed=10 + step).to(dtype), rows(8, 5, seed=20 + step).to(dtype)
        indices = torch.randint(0, 60, (8,), generator=generator(step))
        picked = choose(bank, q, indices, generator(step), chosen)
        V, y, C = arrays(bank)
        intra = ref.info_nce(q.double().numpy(), k.double().numpy(), queue.keys.double().numpy(), 0.2)
        inter = ref.inter_loss(
            q.double().numpy(), V.astype(np.float64), picked.positives.tolist(), picked.negatives.tolist(), 0.2, "cosine", -0.5
        )
        V = ref.update_features(V, indices.tolist(), k.numpy(), 0.5)
        y, ratio = ref.update_labels(V, y, C, indices.tolist())
        C = ref.update_centroids(V, y, C) if step % 2 else C
        y, C = ref.repair(V, y, C, 6, lambda n: torch.randperm(n, generator=generator(0))[:2].numpy())
        old = copy.deepcopy((bank.state_dict(), queue.state_dict()))
        got = iteration(bank, queue, q, k, indices, generator(step), step=step, settings=chosen)
        assert got.intra.item() == pytest.approx(intra, abs=tolerance)
        assert got.inter.item() == pytest.approx(inter, abs=tolerance)
        assert got.loss.item() == pytest.approx(0.75 * intra + 0.25 * inter, abs=tolerance)
        np.testing.assert_allclose(got.bank.features, V, atol=tolerance)
        np.testing.assert_allclose(got.bank.centroids, C, atol=tolerance)
        assert got.bank.labels.tolist() == y.tolist()
        assert got.health["change_ratio"].item() == pytest.approx(ratio)
        torch.testing.assert_close(got.queue.keys[step * 8 % 12], unit(k)[0])
        assert all(torch.equal(v, old[0][name]) for name, v in bank.state_dict().items())
        assert all(torch.equal(v, old[1][name]) for name, v in queue.state_dict().items())
        bank, queue = got.bank, got.queue


def test_offline_labels_stand_still_while_features_move():
    bank = make_bank()
    before, key = copy.deepcopy(bank), rows(3, 5, seed=8)
    advance_(bank, torch.tensor([0, 1, 2]), key, 9, StepSettings(negatives=3, pool=9, labels="offline", min_cluster=50), generator())
    assert torch.equal(bank.labels, before.labels)
    assert torch.equal(bank.centroids, before.centroids)
    torch.testing.assert_close(bank.features[:3], unit(key))


@pytest.mark.parametrize(
    ("samples", "clusters", "expected"),
    [(60000, 0, (469, 768, 6000, 20)), (19280, 151, (151, 247, 1928, 20)), (19280, 964, (964, 247, 1928, 3)), (2640, 81, (81, 34, 264, 5))],
)
def test_sizes_follow_the_number_of_samples(samples, clusters, expected):
    assert dataclasses.astuple(scaled_sizes(samples, clusters=clusters)) == expected


@pytest.mark.parametrize(
    "bad",
    [
        {"clusters": 99},
        {"pool": 99},
        {"min_cluster": 30},
        {"negatives": -1},
        {"temperature": 0.0},
        {"bank_momentum": 2.0},
        {"bank_fraction": 0.0},
        {"centroid_interval": 0},
        {"warmup_epochs": -1},
        {"offline_interval": 0},
        {"margin_value": 4.0, "margin": "arc"},
        {"key_momentum": -0.1},
    ],
)
def test_bad_settings_are_named(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        method(**bad)


CONTEXT = RunContext(num_samples=40, batch_size=8, steps_per_epoch=5, total_steps=50, seed=1)


def method(**chosen):
    torch.manual_seed(0)
    return InterCLR(model_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 6)), nn.Linear(6, 4)), CONTEXT, **chosen)


def features(seed=0, d=4):
    calls = []

    def extract(head=None):
        calls.append(head)
        return rows(40, d, seed=seed + len(calls)).float()

    return extract, calls


def views(step=0):
    return [torch.randn(8, 3, 2, 2, generator=generator(2 * step + v)) for v in range(2)]


def test_first_step_is_the_iteration_on_the_networks_embeddings():
    m = method(clusters=4, queue=16)
    m.prepare(features()[0])
    v, indices = views(), torch.arange(8)
    q, k = m.projector(m.encoder(v[0])), m.key(v[1], 0)
    expected = iteration(m.bank, m.queue, q, k, indices, keyed_generator(1, "interclr/sample", 0), step=0, settings=m.settings)
    terms = loss_of(m, v, indices, 0)
    for name in ("loss", "intra", "inter"):
        assert terms[name].item() == pytest.approx(getattr(expected, name).item(), abs=1e-6)
    gauges = m.after_step(0)
    assert {k: float(v) for k, v in gauges.items()} == pytest.approx({k: float(v) for k, v in expected.health.items()})
    assert all(torch.equal(v, expected.bank.state_dict()[k]) for k, v in m.bank.state_dict().items())
    assert torch.equal(m.queue.keys, expected.queue.keys)


def test_warm_up_counts_the_intra_loss_alone_and_then_clusters_anew():
    m = method(warmup_epochs=2, recluster_after_warmup=True)
    extract, calls = features()
    m.prepare(extract)
    for epoch in range(4):
        m.start_epoch(epoch, extract)
        assert len(calls) == (0 if epoch < 2 else 1)  # the bank rests until it is needed
        terms = loss_of(m, views(), torch.arange(8), epoch * 5)
        warm = epoch < 2
        assert (terms["inter"] == 0) == warm
        expected = terms["intra"] if warm else 0.75 * terms["intra"] + 0.25 * terms["inter"]
        assert terms["loss"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_offline_labels_are_renewed_every_interval():
    m = method(labels="offline", offline_interval=2)
    extract, calls = features()
    m.prepare(extract)
    seen = []
    for epoch in range(5):
        m.start_epoch(epoch, extract)
        seen.append(len(calls))
    assert seen == [1, 1, 2, 2, 3]


def test_a_second_neck_fills_the_bank_and_starts_differently():
    m = method(share_neck=False)
    extract, calls = features()
    m.prepare(extract)
    assert calls == [m.inter_projector]
    assert not torch.equal(m.inter_projector.weight, m.projector.weight)
    assert torch.equal(m.inter_projector.weight, method(share_neck=False).inter_projector.weight)
    loss_of(m, views(), torch.arange(8), 0)["loss"].backward()
    assert m.inter_projector.weight.grad.abs().sum() > 0
    key = m.key.heads[1](m.key.encoder(views()[1]))
    m.after_step(0)
    torch.testing.assert_close(m.bank.features[:8], unit(key))


def test_misuse_is_told_apart():
    m = method()
    with pytest.raises(KinshotError, match="prepare"):
        loss_of(m, views(), torch.arange(8), 0)
    with pytest.raises(DataError, match="expected one embedding"):
        m.prepare(lambda head=None: torch.zeros(39, 4))
    with pytest.raises(DivergedError, match="not finite"):
        m.prepare(lambda head=None: torch.full((40, 4), math.nan))
