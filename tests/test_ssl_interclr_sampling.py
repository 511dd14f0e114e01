"""InterCLR: pools, draws, neighbours and margins, against float64 loops and their invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.objectives.common import unit
from kinshot.ssl.interclr import sampling as sa
from kinshot.ssl.interclr.margins import apply_margin, arc_margin
from kinshot.ssl.interclr.neighbors import draw_neighbors, mutual_neighbors
from kinshot.ssl.interclr.settings import StepSettings
from kinshot.ssl.interclr.step import choose, inter_loss
from tests import reference_interclr as ref
from tests.banks import arrays, generator, make_bank, rows


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


def test_the_fast_selection_is_taken_unless_tied_and_agrees_with_top_k():
    scores = rows(4, 30)
    fast = sa._select_by_threshold(scores.numpy(), 6)
    assert fast is not None
    assert torch.equal(fast, scores.topk(6, dim=1).indices.sort(dim=1).values)
    assert sa._select_by_threshold(torch.ones(2, 5).numpy(), 3) is None


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
    members = sa.members_by_label(labels, int(labels.max()) + 1)
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
    sa.draw_positives(sa.members_by_label(bank.labels, len(bank.counts)), bank.labels, indices, drawn)
    return drawn


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
