"""Relations: three forms that mean the same, hybrids, and where kinship comes from."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.parts import Block, Listed, Mask
from kinshot.kin.relation import Relation


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random_relation(seed, a=4, r=6):
    """Weighted parts without overlap, each about a third of the pairs."""
    kind = torch.randint(0, 3, (a, r), generator=generator(seed))
    weights = torch.randint(1, 4, (a, r), generator=generator(seed + 1)).float()
    return Relation(Mask(weights * (kind == 1)), Mask(weights * (kind == 2)), (a, r))


def as_listed(part):
    """The same part as lists, in a shuffled order, with absent entries between."""
    a, r = part.weights.shape
    order = torch.stack([torch.randperm(r, generator=generator(row)) for row in range(a)])
    weights = part.weights.float().gather(1, order)
    return Listed(torch.where(weights > 0, order, -1), weights)


def same(one, other):
    return all(torch.equal(x, y) for x, y in zip(one.dense(), other.dense(), strict=True))


seeds = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_forms_agree_in_everything(seed):
    mask = random_relation(seed)
    listed = Relation(as_listed(mask.positive), as_listed(mask.negative), mask.shape)
    assert same(mask, listed)
    assert same(mask.rows(slice(1, 3)), listed.rows(slice(1, 3)))
    factors = torch.tensor([0.0, 1.0, 2.0, 0.5])
    assert same(mask.scaled(factors), listed.scaled(factors))
    drop = torch.rand(4, 6, generator=generator(seed + 2)) < 0.4
    assert same(mask.without(drop), listed.without(drop))
    other = random_relation(seed + 3)
    assert same(mask.union(other), listed.union(other))
    assert same(mask.intersection(other), listed.intersection(other))
    assert listed.validate() is listed


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_block_is_everything_but_its_exceptions(seed):
    left = torch.randint(-1, 6, (4, 3), generator=generator(seed))
    dense = Relation(None, Block(4, 6, left), (4, 6)).dense()[1]
    expected = [[float(j not in left[i].tolist()) for j in range(6)] for i in range(4)]
    assert dense.tolist() == expected
    mask = Relation(None, Mask(dense), (4, 6))
    block = Relation(None, Block(4, 6, left), (4, 6))
    factors = torch.tensor([0.0, 1.0, 2.0, 0.5])
    assert same(mask.scaled(factors), block.scaled(factors))
    assert same(mask.rows(slice(2, None)), block.rows(slice(2, None)))
    gone = make.listed(torch.randint(-1, 6, (4, 2), generator=generator(seed + 1)), size=6)
    assert same(mask.without(gone), block.without(gone))


@settings(max_examples=25, deadline=None)
@given(seeds, seeds, seeds)
def test_union_and_intersection_behave_like_sets(i, j, k):
    a, b, c = (random_relation(seed) for seed in (i, j, k))
    assert same(a.union(a), a)
    assert same(a.intersection(a), a)
    assert same(a.union(b), b.union(a))
    assert same(a.intersection(b), b.intersection(a))
    assert same(a.union(b).union(c), a.union(b.union(c)))
    assert same(a.intersection(b).intersection(c), a.intersection(b.intersection(c)))
    a.union(b).validate()
    positive, negative = a.union(b).dense()
    assert torch.equal(positive > 0, (a.dense()[0] > 0) | (b.dense()[0] > 0))
    assert not bool((negative[positive > 0] > 0).any())


@settings(max_examples=15, deadline=None)
@given(seeds, seeds)
def test_masking_out_leaves_neither(i, j):
    a, b = random_relation(i), random_relation(j)
    positive, negative = a.without(b).dense()
    hit = b.dense()[0] > 0
    assert not positive[hit].any()
    assert not negative[hit].any()
    assert torch.equal(positive[~hit], a.dense()[0][~hit])
    assert torch.equal(negative[~hit], a.dense()[1][~hit])
    assert not a.without(a).dense()[0].any()


def test_moving_keeps_the_relation():
    for relation in (random_relation(1), make.views(torch.arange(3)), make.negatives(2, 5), make.pairs(4)):
        assert same(relation.to("cpu"), relation)
        assert relation.to("meta").shape == relation.shape
    assert make.pairs(3).to("meta").device == torch.device("meta")
    assert make.negatives(2, 5).device is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 3))
def test_views_of_one_sample_are_kin_wherever_they_are(ids, copies):
    relation = make.views(torch.tensor(ids), copies).validate()
    positive, negative = relation.dense()
    rows = ids * copies
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            assert positive[i, j] == (a == b and i != j)
            assert negative[i, j] == (a != b)


def test_labels_know_the_unknown():
    positive, negative = make.labels(torch.tensor([0, 1, 0, -1])).dense()
    assert positive.nonzero().tolist() == [[0, 2], [2, 0]]
    assert negative.nonzero().tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    across = make.labels(torch.tensor([0, -1]), torch.tensor([0, 1, -1]))
    assert [x.tolist() for x in across.dense()] == [[[1, 0, 0], [0, 0, 0]], [[0, 1, 0], [0, 0, 0]]]


def test_multilabels_decide_only_what_missing_entries_cannot_change():
    marks = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 1], [1, -1, 0]]).float()
    marks[3, 1] = torch.nan
    positive, negative = make.multilabels(marks, 1).dense()
    assert positive[0].tolist() == [0, 1, 0, 1]
    assert negative[0].tolist() == [0, 0, 1, 0]
    strict = make.multilabels(marks, 2)
    assert strict.dense()[0].sum() == 0
    assert strict.dense()[1][3].tolist() == [0, 1, 1, 0]  # with row 0 the missing label may be the second shared one


def test_graded_multilabels_weigh_what_is_shared():
    marks = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]).float()
    positive, negative = make.multilabels(marks, 1, graded=True).validate().dense()
    for a, b in itertools.product(range(5), repeat=2):
        sets = [{i for i in range(4) if marks[row, i] == 1} for row in (a, b)]
        share = len(sets[0] & sets[1]) / max(len(sets[0] | sets[1]), 1)
        assert float(positive[a, b]) == pytest.approx(share if a != b else 0)
        assert float(negative[a, b]) == pytest.approx(0 if a == b or share else 1)
    assert make.multilabels(marks, 2, graded=True).dense()[1][0, 2] == pytest.approx(1 - 1 / 4)


def test_across_views_carries_kinship_to_every_view():
    relation = make.across_views(make.labels(torch.tensor([0, 0, 1])), 2)
    assert same(relation, make.labels(torch.tensor([0, 0, 1, 0, 0, 1])))
    alone = make.across_views(make.labels(torch.tensor([-1, -1])), 2)
    assert alone.dense()[0].nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]
    assert not alone.dense()[1].any()


def test_graph_arrays_and_graphs():
    induced = SimpleNamespace(positive=np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1]], np.float32), masked=np.eye(3, dtype=bool)[::-1].copy())
    calls = []

    class Graph:
        def induced(self, rows, columns=None, *, mask_hops=0):
            calls.append((rows.tolist(), columns, mask_hops))
            return induced

    positive, negative = make.graph(induced).validate().dense()
    assert positive.tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]
    assert negative.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert same(make.graph(Graph(), torch.tensor([5, 6, 7]), mask_hops=2), make.graph(induced))
    assert calls == [([5, 6, 7], None, 2)]
    assert make.graph(induced, diagonal=True).dense()[0].diagonal().tolist() == [1, 1, 1]
    with pytest.raises(ConfigError, match="ids"):
        make.graph(Graph())


def test_time_stays_within_its_sequence():
    t, group = torch.tensor([0.0, 1.0, 3.0, 1.0, torch.nan]), torch.tensor([0, 0, 0, 1, 0])
    positive, negative = make.time(t, group, 1).dense()
    assert positive.nonzero().tolist() == [[0, 1], [1, 0]]
    assert negative[0].tolist() == [0, 0, 1, 1, 0]
    assert make.time(t, group, 1, masked_lag=3).dense()[1][0].tolist() == [0, 0, 0, 1, 0]


def test_modalities_meet_at_the_instant():
    relation = make.modalities(torch.tensor([3, 4]), torch.tensor([4, 3, 5]), second_present=torch.tensor([True, False, True]))
    assert [x.tolist() for x in relation.dense()] == [[[0, 0, 0], [1, 0, 0]], [[1, 0, 1], [0, 0, 1]]]


def test_teacher_by_neighbors_and_by_threshold():
    z = torch.randn(6, 3, generator=generator(0), dtype=torch.float64)
    cosine = torch.nn.functional.normalize(z) @ torch.nn.functional.normalize(z).T
    positive, negative = make.teacher(z, k=2).validate().dense()
    for i in range(6):
        others = [j for j in range(6) if j != i]
        nearest = sorted(others, key=lambda j: -float(cosine[i, j]))[:2]
        assert positive[i].nonzero().flatten().tolist() == sorted(nearest)
        assert negative[i].nonzero().flatten().tolist() == sorted(set(others) - set(nearest))
    by_cosine = make.teacher(z, threshold=0.3).validate().dense()[0]
    assert torch.equal(by_cosine > 0, (cosine >= 0.3) & ~torch.eye(6, dtype=torch.bool))
    assert make.teacher(z, k=3, refs=z).dense()[0].diagonal().all()


def test_clusterings_count_where_two_samples_differ():
    relation = make.clusterings([torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])])
    assert relation.dense()[1].tolist() == [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
    assert torch.equal(relation.dense()[0], torch.eye(3))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Mask(torch.zeros(3, 3, dtype=torch.int64)), "bool or float"),
        (lambda: Listed(torch.zeros(3, 3)), "int64"),
        (lambda: Listed(torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 1)), "weight for each index"),
        (lambda: Block(3, 4, torch.zeros(2, 1, dtype=torch.int64)), "exceptions"),
        (lambda: Relation(Mask(torch.zeros(2, 3)), None, (2, 4)), "positive part"),
        (lambda: make.pairs(3).union(make.pairs(4)), "one shape"),
        (lambda: make.pairs(3).without(torch.zeros(2, 3, dtype=torch.bool)), "mask out"),
        (lambda: make.pairs(3).scaled(torch.ones(2)), "factor"),
        (lambda: make.views(torch.zeros(2, 2)), "ids"),
        (lambda: make.views(torch.zeros(2), 0), "copies"),
        (lambda: make.multilabels(torch.zeros(2, 2), 0), "min_shared"),
        (lambda: make.listed(None, size=3), "neither"),
        (lambda: make.teacher(torch.zeros(3, 2)), "either k or threshold"),
        (lambda: make.teacher(torch.zeros(3, 2), k=3), "1 to 2"),
        (lambda: make.time(torch.zeros(3), torch.zeros(3), 2, masked_lag=1), "max_lag"),
        (lambda: make.listed(torch.tensor([3]), size=3).validate(), "below 3"),
        (lambda: make.listed(torch.tensor([[1, 1]]), size=3).validate(), "twice"),
        (lambda: make.listed(torch.tensor([1]), torch.tensor([1]), size=3).validate(), "positive and negative"),
        (lambda: make.weights(torch.tensor([[0.0, -1.0]])).validate(), "0 or more"),
        (lambda: make.weights(torch.tensor([[0.0, torch.nan]])).validate(), "finite"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ConfigError, match=words):
        build()
