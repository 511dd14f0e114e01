"""What holds for transductive heads whatever the numbers: initialisation, limits, prior knowledge, independence of episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.fewshot.evaluate import build_head
from kinshot.fewshot.heads.laplacian_shot import affinity
from kinshot.fewshot.heads.pt_map import pt_map
from kinshot.fewshot.heads.tim import tim
from kinshot.fewshot.span import Span, weighted_means
from kinshot.fewshot.transforms import class_means, cosine, squared_distance, unit
from kinshot.fewshot.transport import balanced_plan
from tests import reference_transductive as reference

WAYS = 3
# few steps of the slow ones; every other setting is the default
QUICK = {
    "alpha_tim": {"steps": 30, "lr": 1e-3},
    "bd_cspn": {},
    "laplacian_shot": {},
    "pt_map": {"balanced_prior": True},
    "soft_kmeans": {},
    "tim": {"steps": 30, "lr": 1e-3},
    "transductive_finetune": {"affine": True},
}
every_head = pytest.mark.parametrize("name", QUICK)


def _episodes(seed, **options):
    return reference.tensors(*reference.random_episodes(seed, ways=WAYS, **options)[:3])


@every_head
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(11)))
def test_query_order_moves_the_rows(name, seed, order):
    support, labels, query = _episodes(seed, episodes=2)
    head = build_head(name, QUICK[name])
    torch.testing.assert_close(
        head(support, labels, query[:, order], WAYS), head(support, labels, query, WAYS)[:, order], rtol=1e-6, atol=1e-7
    )


@every_head
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_an_episode_does_not_see_its_batch(name, seed):
    support, labels, query = _episodes(seed, episodes=5)
    # one easy, one hopeless: they converge at different times
    support[0], query[0] = support[0] * 20, query[0] * 20
    support[1], query[1] = support[1] * 1e-3 + 1, query[1] * 1e-3 + 1
    head = build_head(name, QUICK[name])
    alone = torch.cat([head(support[[e]], labels[[e]], query[[e]], WAYS) for e in range(5)])
    torch.testing.assert_close(alone, head(support, labels, query, WAYS), rtol=1e-7, atol=1e-9)


@every_head
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_episodes_stay_finite(name, dtype):
    support, labels, query = (t.to(dtype) if t.is_floating_point() else t for t in _episodes(1, episodes=4, positive=True))
    query[0] = support[0, :1]  # every query is one support image: the other classes get no mass
    query[1] = 0
    support[2] = support[2, :1]  # the classes cannot be told apart
    query[3] = 1e4 * support[3, labels[3] == 0][:1]
    for extra in ({}, {"transform": "none"}):
        scores = build_head(name, {**QUICK[name], **extra})(support, labels, query, WAYS)
        assert torch.isfinite(scores).all()


@pytest.mark.parametrize("queries", [1, 2])
@every_head
def test_few_queries(name, queries):
    support, labels, query = _episodes(2, queries=queries)
    assert torch.isfinite(build_head(name, QUICK[name])(support, labels, query, WAYS)).all()


COSINES = {"distance": "cosine", "temperature": 10.0, "transform": "l2n"}


@pytest.mark.parametrize(("head", "extra"), [("tim", {}), ("alpha_tim", {}), ("transductive_finetune", COSINES), ("soft_kmeans", COSINES)])
def test_no_steps_score_by_class_means(head, extra):
    support, labels, query = _episodes(3)
    means, q = class_means(unit(support), labels, WAYS), unit(query)
    expected = 10 * cosine(q, means) if extra else -7.5 * squared_distance(q, means)
    torch.testing.assert_close(build_head(head, {"steps": 0, **extra})(support, labels, query, WAYS), expected)


def test_no_steps_of_the_assigning_heads():
    support, labels, query = _episodes(4, positive=True)
    near = -squared_distance(unit(query), class_means(unit(support), labels, WAYS))
    head = build_head("laplacian_shot", {"steps": 0, "rectify": "none"})
    torch.testing.assert_close(head(support, labels, query, WAYS), near.softmax(-1))
    head = build_head("laplacian_shot", {"lam": 0.0, "rectify": "none"})
    torch.testing.assert_close(head(support, labels, query, WAYS), near.softmax(-1))
    head = build_head("pt_map", {"steps": 0, "centre": "none", "power": 1.0, "transform": "l2n"})
    torch.testing.assert_close(head(support, labels, query, WAYS), (10 * near).softmax(-1))


def test_alpha_tim_tends_to_tim():
    support, labels, query = _episodes(5)
    common = {"steps": 40, "lr": 1e-3, "cross_entropy": 0.1, "marginal": 1.0, "conditional": 0.3}
    shannon = tim(support, labels, query, WAYS, **common)

    def gap(alpha):
        return float((build_head("alpha_tim", {**common, "alpha": alpha})(support, labels, query, WAYS) - shannon).abs().max())

    assert gap(1.0) < 1e-8
    assert gap(1 + 1e-7) < 1e-4
    assert gap(1.01) < gap(1.1) < gap(2.0)
    assert gap(2.0) > 0.01


def test_the_marginal_term_spreads_the_queries():
    support, labels, query = _episodes(6)
    query = query[:, :1] + 0.05 * query  # all near one point
    counts = []
    for marginal in (0.0, 1.0):
        logits = tim(support, labels, query, WAYS, marginal=marginal, steps=200, lr=1e-2)
        counts.append(logits.softmax(-1).mean(1).amax(-1))
    assert (counts[1] < counts[0] - 0.1).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 300), ways=st.integers(2, 7), queries=st.integers(1, 20), warm=st.booleans())
def test_plan_has_its_row_and_column_sums(seed, scale, ways, queries, warm):
    rng = np.random.default_rng(seed)
    scores = -scale * torch.from_numpy(rng.random((4, ways, queries)) + rng.random((4, ways, 1)))
    start = torch.from_numpy(rng.normal(size=(4, ways)) * 3 * warm)
    plan, offsets = balanced_plan(scores, start, 1e-9)
    torch.testing.assert_close(plan.sum(1), torch.ones(4, queries, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(2), torch.full((4, ways), queries / ways, dtype=torch.float64), rtol=2e-9, atol=0)
    # the plan is a rescaling of exp(scores), which together with its sums makes it the one
    torch.testing.assert_close(plan, (scores + offsets.unsqueeze(-1)).softmax(1))


def test_plan_equals_sinkhorn():
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(3, 4, 9)) * 2
    plan, _ = balanced_plan(torch.from_numpy(scores), torch.zeros(3, 4, dtype=torch.float64), 1e-12)
    for e in range(3):
        np.testing.assert_allclose(plan[e].numpy().T, reference.sinkhorn(np.exp(scores[e].T), 9 / 4), atol=1e-11)


def test_plan_of_hopelessly_unequal_scores():
    scores = torch.zeros(2, 3, 12, dtype=torch.float64)
    scores[0, 1:] = -5000.0  # the softmax gives these classes exactly nothing
    scores[1, 0, :11], scores[1, 1, 11] = 800.0, 800.0
    plan, _ = balanced_plan(scores, torch.zeros(2, 3, dtype=torch.float64), 1e-6)
    assert torch.isfinite(plan).all()
    torch.testing.assert_close(plan.sum(2), torch.full((2, 3), 4.0, dtype=torch.float64), rtol=1e-5, atol=0)


def test_pt_map_holds_the_columns_only_when_asked():
    support, labels, query = _episodes(8, queries=12, positive=True)
    held = pt_map(support, labels, query, WAYS, balanced_prior=True)
    free = pt_map(support, labels, query, WAYS)
    one = torch.ones(len(query), 12, dtype=torch.float64)
    torch.testing.assert_close(held.sum(-1), one)
    torch.testing.assert_close(free.sum(-1), one)
    assert (held.sum(1) - 12 / WAYS).abs().max() < 1e-5
    assert (free.sum(1) - 12 / WAYS).abs().max() > 0.5


def test_without_the_prior_skewed_queries_keep_their_class():
    generator = torch.Generator().manual_seed(9)
    centres = 3 * torch.eye(WAYS, 6) + 1
    labels = torch.arange(WAYS).repeat_interleave(3).unsqueeze(0)
    support = centres[labels] + 0.1 * torch.randn(1, 9, 6, generator=generator)
    query = centres[torch.tensor([[0] * 10 + [1, 2]])] + 0.1 * torch.randn(1, 12, 6, generator=generator)
    free = pt_map(support, labels, query, WAYS, centre="none").argmax(-1)
    held = pt_map(support, labels, query, WAYS, centre="none", balanced_prior=True).argmax(-1)
    assert free.tolist() == [[0] * 10 + [1, 2]]
    assert torch.bincount(held[0], minlength=WAYS).max() < 10


@pytest.mark.parametrize("centre", [False, True])
def test_span_equals_explicit_rows(centre):
    rng = np.random.default_rng(10)
    means, query, weight = reference.tensors(rng.normal(size=(2, 3, 5)) + 9, rng.normal(size=(2, 7, 5)) + 9, rng.random((2, 3, 7)))
    counts = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64).reshape(1, 3, 1).expand(2, 3, 1)
    span = Span.of(means, query, centre=centre)
    rows = span.start().toward(weighted_means(counts, weight), 0.3)
    estimate = (counts * means + weight @ query) / (counts + weight.sum(-1, keepdim=True))
    explicit = means.lerp(estimate, 0.3)
    torch.testing.assert_close(span.distances(rows), squared_distance(explicit, query))
    if not centre:
        torch.testing.assert_close(span.cosines(rows), cosine(explicit, query))


def test_affinity_is_directed_and_leaves_the_query_out():
    query = torch.tensor([[[0.0], [1.0], [3.0], [3.5], [20.0]]])
    found = affinity(query, query.square().sum(-1).unsqueeze(1), 1)
    assert found[0].nonzero().tolist() == [[0, 1], [1, 0], [2, 3], [3, 2], [4, 3]]


def test_affinity_keeps_all_queries_at_one_distance():
    query = torch.tensor([[[0.0], [0.0], [0.0], [1.0]]])
    found = affinity(query, query.square().sum(-1).unsqueeze(1), 1)
    assert found[0].tolist() == [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
