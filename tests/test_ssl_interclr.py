"""InterCLR's parts against float64 loops, their invariants, and the method's own timetable."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kinshot.core.errors import ConfigError, DataError, DivergedError, KinshotError
from kinshot.core.rng import keyed_generator
from kinshot.objectives.info_nce import unit
from kinshot.ssl.base import MethodContext
from kinshot.ssl.interclr import sampling as sa
from kinshot.ssl.interclr.bank import Bank, fill_bank_, last_occurrence, update_features_, update_labels_
from kinshot.ssl.interclr.kmeans import cluster_means, kmeans
from kinshot.ssl.interclr.maintenance import cluster_health, repair_small_clusters_, update_centroids_
from kinshot.ssl.interclr.margins import apply_margin, arc_margin
from kinshot.ssl.interclr.neighbors import draw_neighbors, mutual_neighbors
from kinshot.ssl.interclr.settings import StepSettings, scaled_sizes
from kinshot.ssl.interclr.step import advance_, choose, inter_loss, iteration
from kinshot.ssl.methods.interclr import InterCLR
from kinshot.ssl.queue import KeyQueue
from tests import reference_interclr as ref


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def make_bank(n=60, d=5, k=4, seed=0, sizes=None):
    labels = torch.randint(0, k, (n,), generator=generator(seed + 1))
    if sizes is not None:
        labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))[torch.randperm(sum(sizes), generator=generator(seed))]
        n, k = len(labels), len(sizes)
    return Bank(rows(n, d, seed=seed), labels, k)


def arrays(bank):
    return bank.features.numpy().copy(), bank.labels.numpy().copy(), bank.centroids.numpy().copy()


def consistent(bank):
    return torch.equal(bank.counts, torch.bincount(bank.labels, minlength=len(bank.counts)))


# ---- bank


@pytest.mark.parametrize("momentum", [1.0, 0.5, 0.0])
def test_feature_update_equals_loops_with_repeated_indices(momentum):
    bank = make_bank()
    indices, keys = torch.tensor([3, 9, 3, 59, 9, 3]), rows(6, 5, seed=7)
    expected = ref.update_features(bank.features.numpy(), indices.tolist(), keys.numpy(), momentum)
    update_features_(bank, indices, keys, momentum)
    np.testing.assert_allclose(bank.features.numpy(), expected, atol=1e-14)


def test_label_update_equals_loops_and_keeps_counts():
    bank = make_bank()
    bank.centroids.copy_(rows(4, 5, seed=3))
    indices = torch.tensor([3, 9, 3, 59, 9, 0, 17])
    expected, ratio = ref.update_labels(*arrays(bank), indices.tolist())
    assert update_labels_(bank, indices).item() == pytest.approx(ratio)
    assert ratio > 0
    assert bank.labels.tolist() == expected.tolist()
    assert consistent(bank)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_last_occurrence(indices):
    expected = [max(p for p, other in enumerate(indices) if other == i) for i in indices]
    assert last_occurrence(torch.tensor(indices)).tolist() == expected


def test_fill_bank_normalises_and_clusters_everything():
    bank = Bank.unfilled(40, 5, 6).double()
    assert not bank.filled
    fill_bank_(bank, 3 * rows(40, 5), generator())
    assert bank.filled
    torch.testing.assert_close(bank.features, unit(rows(40, 5)))
    assert int(bank.counts.min()) > 0
    assert consistent(bank)
    np.testing.assert_allclose(bank.centroids, ref.update_centroids(*arrays(bank)), atol=1e-14)
    again = Bank.unfilled(40, 5, 6).double()
    again.labels.copy_(bank.labels)
    fill_bank_(again, rows(40, 5), generator(9), keep_labels=True)
    assert torch.equal(again.labels, bank.labels)


# ---- k-means


def test_kmeans_equals_loops_from_the_same_first_centroids():
    x = rows(50, 3)
    first = torch.randperm(50, generator=generator(4))[:3]
    expected, means = ref.lloyd(x.numpy(), x[first].numpy(), 20)
    labels, centroids = kmeans(x, 3, generator=generator(4))
    assert labels.tolist() == expected.tolist()
    np.testing.assert_allclose(centroids, means, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 20), st.integers(1, 3), st.integers(0, 99))
def test_kmeans_leaves_no_cluster_empty_even_among_copies(clusters, extra, distinct, seed):
    x = torch.arange(clusters + extra).remainder(distinct).double()[:, None]
    labels, _ = kmeans(x, clusters, generator=generator(seed))
    assert torch.bincount(labels, minlength=clusters).min() > 0
    assert torch.equal(labels, kmeans(x, clusters, generator=generator(seed))[0])


def test_kmeans_starts_from_a_given_assignment_and_refuses_too_many_clusters():
    x = torch.cat([rows(10, 2) + 10, rows(10, 2) - 10])
    start = (torch.arange(20) < 10).long()
    labels, centroids = kmeans(x, 2, generator=generator(), assignment=start)
    assert torch.equal(labels, start)
    torch.testing.assert_close(centroids, cluster_means(x, start, 2))
    with pytest.raises(ConfigError, match="clusters"):
        kmeans(x, 21, generator=generator())


# ---- maintenance


def test_centroid_update_equals_loops_and_keeps_the_centroids_of_empty_clusters():
    bank = make_bank(sizes=[10, 0, 5, 8])
    bank.centroids.copy_(rows(4, 5, seed=5))
    expected = ref.update_centroids(*arrays(bank))
    update_centroids_(bank)
    np.testing.assert_allclose(bank.centroids, expected, atol=1e-14)
    torch.testing.assert_close(bank.centroids[1], rows(4, 5, seed=5)[1])


@pytest.mark.parametrize("sizes", [[30, 2, 20, 0, 12], [3, 40, 3, 3], [5, 5, 60], [0, 0, 50, 0]])
@pytest.mark.parametrize("seed", [0, 1])
def test_small_clusters_are_repaired_as_by_loops(sizes, seed):
    bank = make_bank(sizes=sizes, seed=seed)

    def first_two(n):
        return torch.randperm(n, generator=generator(0))[:2].numpy()

    labels, centroids = ref.repair(bank.features.numpy(), bank.labels.numpy(), bank.centroids.numpy(), 6, first_two)
    assert repair_small_clusters_(bank, 6) == sum(s < 6 for s in sizes)
    assert bank.labels.tolist() == labels.tolist()
    np.testing.assert_allclose(bank.centroids, centroids, atol=1e-12)
    assert consistent(bank)
    assert int(cluster_health(bank)["cluster_empty"]) == 0


def test_repair_touches_nothing_while_every_cluster_is_large_enough():
    bank = make_bank(sizes=[10, 11, 12])
    before = copy.deepcopy(bank.state_dict())
    assert repair_small_clusters_(bank, 10) == 0
    assert all(torch.equal(v, before[k]) for k, v in bank.state_dict().items())


def test_repair_copes_when_every_cluster_is_small():
    bank = make_bank(sizes=[3, 4, 2])
    assert repair_small_clusters_(bank, 100) == 2
    assert consistent(bank)
    assert int(bank.counts.min()) > 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 8))
def test_counts_stay_true_through_many_steps(seed, minimum):
    bank = make_bank(n=48, k=6, seed=seed)
    chosen = StepSettings(negatives=4, pool=10, min_cluster=minimum, centroid_interval=2)
    for step in range(6):
        indices = torch.randint(0, 48, (10,), generator=generator(seed + step))
        advance_(bank, indices, rows(10, 5, seed=seed + 50 + step), step, chosen)
        assert consistent(bank)
        assert int(bank.counts.min()) > 0


# ---- sampling


def test_pools_equal_loops():
    bank, query = make_bank(), unit(rows(7, 5, seed=2))
    features, _, _ = arrays(bank)
    for sampler in ("semi_hard", "semi_easy"):
        pool = sa.candidate_pool(query, bank.features, sampler, 9)
        assert [set(p) for p in pool.tolist()] == [ref.pool(u, features, sampler, 9) for u in query.numpy()]
        assert torch.equal(pool, pool.sort(dim=1).values)
    hard = sa.candidate_pool(query, bank.features, "hard", 9)
    assert hard.tolist() == [ref.pool(u, features, "hard", 9) for u in query.numpy()]


def test_pools_of_tied_similarities_have_the_asked_size_and_are_cut_to_the_bank():
    tied = torch.ones(12, 2, dtype=torch.float64)
    for sampler in ("hard", "semi_hard", "semi_easy"):
        pool = sa.candidate_pool(tied[:3], tied, sampler, 5)
        assert pool.shape == (3, 5)
        assert all(len(set(p)) == 5 for p in pool.tolist())
        assert sa.candidate_pool(tied[:3], tied, sampler, 99).shape == (3, 12)


def test_hard_negatives_equal_loops_and_ignore_the_generator():
    bank, query, indices = make_bank(), rows(7, 5, seed=2), torch.arange(7)
    features, labels, _ = arrays(bank)
    chosen = StepSettings(negatives=11, pool=20, sampler="hard")
    expected = [ref.hard_negatives(ref.unit(u), features, labels, labels[i], 11) for i, u in enumerate(query.numpy())]
    for seed in (0, 1):
        assert choose(bank, query, indices, generator(seed), chosen).negatives.tolist() == expected


@pytest.mark.parametrize("sampler", ["semi_hard", "semi_easy", "random", "hard"])
def test_draws_come_from_their_pool_without_own_class(sampler):
    bank, query, indices = make_bank(n=200, k=4), unit(rows(9, 5, seed=2)), torch.arange(9)
    chosen = StepSettings(negatives=12, pool=50, sampler=sampler)
    drawn = choose(bank, query, indices, generator(), chosen)
    assert (bank.labels[drawn.negatives] != bank.labels[indices][:, None]).all()
    assert (bank.labels[drawn.positives] == bank.labels[indices]).all()
    assert drawn.weights.tolist() == [1.0] * 9
    if sampler != "random":
        assert all(len(set(n)) == 12 for n in drawn.negatives.tolist())
    if sampler.startswith("semi"):
        pools = [ref.pool(u, bank.features.numpy(), sampler, 50) for u in query.numpy()]
        assert all(set(n) <= p for n, p in zip(drawn.negatives.tolist(), pools, strict=True))


def expect_uniform(counts, total):
    """Each count within 5 standard deviations of its share."""
    share = total / len(counts)
    assert max(abs(c - share) for c in counts) < 5 * math.sqrt(share)


def test_draws_are_uniform():
    repeats = 4000
    pool, same = torch.arange(10, 20).expand(repeats, 10), (torch.arange(10) < 3).expand(repeats, 10)
    negatives = sa.draw_from_pool(pool, same, 2, generator()).indices
    assert negatives.min() >= 13
    expect_uniform(torch.bincount(negatives.flatten())[13:].tolist(), 2 * repeats)
    shortage = sa.draw_from_pool(pool[:, :8], same[:, :8], 7, generator()).indices[:, :3]
    expect_uniform(torch.bincount(shortage.flatten())[13:].tolist(), 3 * repeats)
    labels = torch.tensor([0, 1, 1, 2, 1, 0, 2, 1])
    members = sa.members_by_label(labels, torch.bincount(labels))
    indices = torch.full((repeats,), 2)
    positives = sa.draw_positives(members, labels, indices, generator()).indices
    expect_uniform(torch.bincount(positives)[[1, 2, 4, 7]].tolist(), repeats)
    others = sa.draw_positives(members, labels, indices, generator(), exclude_self=True).indices
    assert set(others.tolist()) == {1, 4, 7}
    expect_uniform(torch.bincount(others)[[1, 4, 7]].tolist(), repeats)
    random = sa.draw_random(members, labels, indices[:1000], 4, generator()).indices
    assert set(random.flatten().tolist()) == {0, 3, 5, 6}
    expect_uniform(torch.bincount(random.flatten())[[0, 3, 5, 6]].tolist(), 4000)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=0, max_size=8, unique=True), st.integers(1, 12), st.integers(0, 99))
def test_a_shortage_repeats_what_remains_evenly(own, count, seed):
    pool = torch.arange(8)[None] + 100
    same = torch.tensor([[c in own for c in range(8)]])
    for draw in (sa.draw_from_pool(pool, same, count, generator(seed)), sa.first_from_pool(pool, same, count)):
        remaining = [c + 100 for c in range(8) if c not in own]
        assert draw.available.tolist() == [len(remaining)]
        assert draw.indices.shape == (1, count)
        if remaining:
            times = [draw.indices[0].tolist().count(r) for r in remaining]
            assert sum(times) == count
            assert max(times) - min(times) <= 1


@pytest.mark.parametrize("sampler", ["semi_hard", "semi_easy", "random", "hard"])
def test_a_bank_of_one_class_gives_no_loss_and_no_endless_search(sampler):
    bank = make_bank(sizes=[30, 0])
    query = rows(4, 5).requires_grad_()
    chosen = choose(bank, query.detach(), torch.arange(4), generator(), StepSettings(negatives=6, pool=10, sampler=sampler))
    assert chosen.weights.tolist() == [0.0] * 4
    loss = inter_loss(query, bank.features, chosen.positives, chosen.negatives, temperature=0.2, weights=chosen.weights)
    loss.backward()
    assert loss.item() == 0
    assert query.grad.abs().sum() == 0


def test_a_sample_alone_in_its_class_has_no_positive_but_itself():
    bank = make_bank(sizes=[1, 20])
    alone = (bank.labels == 0).nonzero().flatten()
    for exclude, weight in ((False, 1.0), (True, 0.0)):
        chosen = choose(bank, rows(1, 5), alone, generator(), StepSettings(negatives=3, pool=21, exclude_self=exclude))
        assert chosen.positives.tolist() == alone.tolist()
        assert chosen.weights.tolist() == [weight]


def test_bank_fraction_draws_valid_negatives_from_a_part_of_the_bank():
    bank, indices = make_bank(n=200, k=4), torch.arange(30)
    chosen = StepSettings(negatives=5, pool=100, bank_fraction=0.2)
    drawn = choose(bank, rows(30, 5, seed=2), indices, generator(), chosen)
    part = set(torch.randperm(200, generator=replay(bank, indices)).tolist()[:40])
    assert set(drawn.negatives.flatten().tolist()) <= part
    assert (bank.labels[drawn.negatives] != bank.labels[indices][:, None]).all()


def replay(bank, indices):
    """The generator as it is after the positives."""
    drawn = generator()
    sa.draw_positives(sa.members_by_label(bank.labels, bank.counts), bank.labels, indices, drawn)
    return drawn


# ---- neighbours


def test_mutual_neighbors_equal_loops():
    bank, k = make_bank(n=40, k=3), 4
    features, labels, _ = arrays(bank)

    def nearest(i):
        others = [j for j in range(40) if j != i and labels[j] == labels[i]]
        return sorted(others, key=lambda j: -features[i] @ features[j])[:k]

    expected = [{j for j in nearest(i) if i in nearest(j)} for i in range(40)]
    graph = mutual_neighbors(bank, k)
    assert [set(row) - {-1} for row in graph.tolist()] == expected
    assert mutual_neighbors(make_bank(sizes=[1, 2, 9]), 20).shape == (12, 20)


def test_neighbors_that_left_the_class_are_not_drawn():
    labels = torch.tensor([0, 0, 0, 1, 0])
    graph = torch.tensor([[3, 1], [-1, -1], [3, -1], [-1, -1], [2, 1]])
    indices = torch.tensor([0, 1, 2])
    fallback = sa.Draw(torch.tensor([4, 4, 4]), torch.tensor([4, 4, 0]))
    draw = draw_neighbors(graph, labels, indices, fallback, generator())
    assert draw.indices.tolist() == [1, 4, 4]
    assert draw.available.tolist() == [1, 4, 0]
    both = draw_neighbors(graph, labels, torch.full((200,), 4), sa.Draw(torch.zeros(200).long(), torch.ones(200).long()), generator())
    assert set(both.indices.tolist()) == {1, 2}


# ---- margins


@pytest.mark.parametrize("kind", ["cosine", "arc", "none"])
@pytest.mark.parametrize("value", [-0.75, -0.5, 0.0, 0.25, 0.5])
def test_margins_equal_their_formula(kind, value):
    p = torch.linspace(-1, 1, 41, dtype=torch.float64)
    expected = [ref.margin(x, kind, value) for x in p.tolist()]
    np.testing.assert_allclose(apply_margin(p, kind, value), expected, atol=1e-12)


@pytest.mark.parametrize("value", [-1.2, -0.5, 0.5, 1.2])
def test_arc_margin_keeps_order_and_has_finite_gradients_everywhere(value):
    p = torch.linspace(-1, 1, 201, dtype=torch.float64, requires_grad=True)
    shifted = arc_margin(p, value)
    assert (shifted.diff() > 0).all()
    shifted.sum().backward()
    assert torch.isfinite(p.grad).all()
    inner = torch.linspace(-0.8, 0.8, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: arc_margin(x, value), (inner,))


# ---- the step


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
    chosen = StepSettings(negatives=7, pool=12, min_cluster=6, sampler=sampler, bank_momentum=0.5, centroid_interval=2)
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
    advance_(bank, torch.tensor([0, 1, 2]), key, 9, StepSettings(negatives=3, pool=9, labels="offline", min_cluster=50))
    assert torch.equal(bank.labels, before.labels)
    assert torch.equal(bank.centroids, before.centroids)
    torch.testing.assert_close(bank.features[:3], unit(key))


# ---- settings and the method


@pytest.mark.parametrize(
    ("samples", "clusters", "expected"),
    [(60000, 0, (469, 768, 6000, 20)), (19280, 151, (151, 247, 1928, 20)), (19280, 964, (964, 247, 1928, 3)), (2640, 81, (81, 34, 264, 5))],
)
def test_sizes_follow_the_number_of_samples(samples, clusters, expected):
    assert dataclasses.astuple(scaled_sizes(samples, clusters=clusters)) == expected


@pytest.mark.parametrize(
    "bad",
    [{"clusters": 99}, {"pool": 99}, {"min_cluster": 30}, {"negatives": -1}, {"temperature": 0.0}, {"bank_momentum": 2.0}, {"bank_fraction": 0.0},
     {"centroid_interval": 0}, {"warmup_epochs": -1}, {"offline_interval": 0}, {"margin_value": 4.0, "margin": "arc"}, {"key_momentum": -0.1}],
)  # fmt: skip
def test_bad_settings_are_named(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        method(**bad)


CONTEXT = MethodContext(num_samples=40, batch_size=8, steps_per_epoch=5, total_steps=50, seed=1)


def method(**chosen):
    torch.manual_seed(0)
    return InterCLR(nn.Sequential(nn.Flatten(), nn.Linear(12, 6)), nn.Linear(6, 4), CONTEXT, **chosen)


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
    terms = m.loss(v, indices, 0)
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
        assert len(calls) == (1 if epoch < 2 else 2)
        terms = m.loss(views(), torch.arange(8), epoch * 5)
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
    m.loss(views(), torch.arange(8), 0)["loss"].backward()
    assert m.inter_projector.weight.grad.abs().sum() > 0
    key = m.key.heads[1](m.key.encoder(views()[1]))
    m.after_step(0)
    torch.testing.assert_close(m.bank.features[:8], unit(key))


def test_misuse_is_told_apart():
    m = method()
    with pytest.raises(KinshotError, match="prepare"):
        m.loss(views(), torch.arange(8), 0)
    with pytest.raises(DataError, match="expected one embedding"):
        m.prepare(lambda head=None: torch.zeros(39, 4))
    with pytest.raises(DivergedError, match="not finite"):
        m.prepare(lambda head=None: torch.full((40, 4), math.nan))
