"""Structure between two views, alignment and uniformity: against loops in float64, and what they must not see."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.core.sphere import log_mean_potential, mean_power
from kinshot.kin import constructors as make
from kinshot.learn import gauges
from kinshot.objectives.alignment import alignment
from kinshot.objectives.class_uniformity import class_uniformity
from kinshot.objectives.structural_similarity import structural_similarity
from kinshot.objectives.uniformity import uniformity
from tests.test_core_relations import random_relation

FORMS = ("kl", "distance", "cka")
every_form = pytest.mark.parametrize("form", FORMS)
seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None)


def rows(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def drawn_labels(count, seed):
    return np.random.default_rng(seed).integers(-1, 3, count)


def directions(z):
    return [row / math.sqrt(sum(v * v for v in row)) for row in np.asarray(z)]


def likeness(z, T):
    u = directions(z)
    return [[sum(p * q for p, q in zip(a, b, strict=True)) / T for b in u] for a in u]


def shares(line, others):
    below = sum(math.exp(line[j]) for j in others)
    return {j: math.exp(line[j]) / below for j in others}


def slow_structure(first, second, ids, form, T):
    """By its definition, pair by pair."""
    count = len(first)
    one, two = likeness(first, T), likeness(second, T)
    others = [[j for j in range(count) if ids[j] != ids[i]] for i in range(count)]
    if form == "cka":
        h = np.eye(count) - np.ones((count, count)) / count
        k, n = h @ np.array(one) @ h, h @ np.array(two) @ h
        return 1 - np.trace(k @ n) / math.sqrt(np.trace(k @ k) * np.trace(n @ n))
    if form == "distance":
        pairs = [(i, j) for i in range(count) for j in others[i]]
        return sum((one[i][j] - two[i][j]) ** 2 for i, j in pairs) / len(pairs)
    total = 0.0
    for i in range(count):
        p, q = shares(one[i], others[i]), shares(two[i], others[i])
        total += sum(p[j] * math.log(p[j] / q[j]) + q[j] * math.log(q[j] / p[j]) for j in others[i]) / 2
    return total / count


def slow_alignment(z, y, alpha):
    u = directions(z)
    pairs = [(i, j) for i in range(len(u)) for j in range(i) if y[i] == y[j] >= 0]
    return sum(math.dist(u[i], u[j]) ** alpha for i, j in pairs) / len(pairs) if pairs else 0.0


def slow_uniformity(z, t):
    u = directions(z)
    terms = [math.exp(-t * math.dist(u[i], u[j]) ** 2) for i in range(len(u)) for j in range(i)]
    return math.log(sum(terms) / len(terms)) if terms else 0.0


def slow_class_uniformity(z, y, t):
    u = directions(z)
    means = [np.mean([u[i] for i in range(len(u)) if y[i] == c], axis=0) for c in sorted({c for c in y if c >= 0})]
    return slow_uniformity(means, t) if means else 0.0


def difference_quotients(function, z, step=1e-6):
    """Gradient of a function of an array, by central differences."""
    slopes = np.zeros_like(z)
    for place in np.ndindex(*z.shape):
        up, down = z.copy(), z.copy()
        up[place] += step
        down[place] -= step
        slopes[place] = (function(up) - function(down)) / (2 * step)
    return slopes


def gradient(function, *tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    function(*leaves).backward()
    return [leaf.grad for leaf in leaves]


@few
@given(seeds, st.sampled_from(FORMS), st.sampled_from([0.1, 0.5, 2.0]))
def test_structure_equals_loops(seed, form, T):
    first, second = rows(6, 4, seed=seed), rows(6, 3, seed=seed + 1)
    ids = np.random.default_rng(seed).integers(0, 5, 6)
    ids[:2] = [7, 8]  # somebody else for everybody
    for names in (np.arange(6), ids):
        expected = slow_structure(first.numpy(), second.numpy(), names, form, T)
        got = structural_similarity(first, second, torch.from_numpy(names), form=form, temperature=T)
        assert got.item() == pytest.approx(expected, abs=1e-8)
        half = structural_similarity(first.float(), second.float(), torch.from_numpy(names), form=form, temperature=T)
        assert half.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    without = structural_similarity(first, second, form=form, temperature=T)
    assert without.item() == pytest.approx(slow_structure(first.numpy(), second.numpy(), np.arange(6), form, T), abs=1e-8)


def test_kl_lets_gradient_into_the_learner_alone():
    first, second = rows(5, 3), rows(5, 4, seed=1)
    one, two = (likeness(z.numpy(), 0.5) for z in (first, second))
    others = [[j for j in range(5) if j != i] for i in range(5)]

    def half(target, learner):
        total = 0.0
        for i in range(5):
            p, q = shares(target[i], others[i]), shares(likeness(learner, 0.5)[i], others[i])
            total += sum(p[j] * math.log(p[j] / q[j]) for j in others[i]) / 2
        return total / 5

    expected = [difference_quotients(lambda z: half(two, z), first.numpy()), difference_quotients(lambda z: half(one, z), second.numpy())]
    for got, wanted in zip(gradient(lambda a, b: structural_similarity(a, b, temperature=0.5), first, second), expected, strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, atol=1e-8)


@pytest.mark.parametrize("form", ["distance", "cka"])
def test_gradients_of_the_alternatives(form):
    ids = torch.tensor([0, 1, 2, 1, 3])
    inputs = (rows(5, 3).requires_grad_(), rows(5, 4, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: structural_similarity(a, b, ids, form=form, temperature=0.5), inputs)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_gradients_of_alignment(alpha):
    y = torch.tensor([0, 1, 0, -1, 1, 0])
    assert torch.autograd.gradcheck(lambda z: alignment(z, make.labels(y), alpha=alpha), rows(6, 3).requires_grad_())


@pytest.mark.parametrize("function", [uniformity, lambda z: class_uniformity(z, make.labels(torch.tensor([0, 1, 0, -1, 1, 2])))])
def test_gradients_of_uniformity(function):
    assert torch.autograd.gradcheck(function, rows(6, 3).requires_grad_())


@few
@given(seeds, st.sampled_from(FORMS))
def test_structure_is_blind_to_rotation_order_and_length(seed, form):
    first, second = rows(7, 4, seed=seed), rows(7, 4, seed=seed + 1)
    ids = torch.tensor([0, 1, 2, 3, 1, 4, 5])
    value = structural_similarity(first, second, ids, form=form)
    turn = torch.linalg.qr(rows(4, 4, seed=seed + 2)).Q
    order = torch.from_numpy(np.random.default_rng(seed).permutation(7))
    lengths = rows(7, 1, seed=seed + 3).exp()
    for changed in (
        structural_similarity(first @ turn, second, ids, form=form),
        structural_similarity(first[order], second[order], ids[order], form=form),
        structural_similarity(first * lengths, second, ids, form=form),
        structural_similarity(second, first, ids, form=form),
    ):
        assert changed.item() == pytest.approx(value.item(), abs=1e-9)
    assert structural_similarity(first, first @ turn, ids, form=form).item() == pytest.approx(0, abs=1e-10)
    assert value.item() > 1e-3
    assert structural_similarity(first, second[order], form=form).item() != pytest.approx(value.item(), abs=1e-6) or order.equal(
        torch.arange(7)
    )


@every_form
def test_equal_structure_is_a_minimum(form):
    z = rows(6, 4)
    for slope in gradient(lambda a, b: structural_similarity(a, b, form=form), z, z.clone()):
        assert slope.abs().max() < 1e-7


@pytest.mark.parametrize("form", ["kl", "distance"])
def test_a_copy_in_the_batch_is_left_out_like_the_row_itself(form):
    first, second = rows(5, 3), rows(5, 3, seed=1)
    doubled = [torch.cat([z, z[:1]]) for z in (first, second)]
    ids = torch.tensor([0, 1, 2, 3, 4, 0])
    assert structural_similarity(*doubled, ids, form=form) != structural_similarity(*doubled, form=form)
    # what the copies are like to one another does not matter
    other = [z.clone() for z in doubled]
    for z, view in zip(other, (first, second), strict=True):
        z[5] = view[0] * 3
    assert structural_similarity(*other, ids, form=form).item() == pytest.approx(structural_similarity(*doubled, ids, form=form).item())


@every_form
@pytest.mark.parametrize("case", ["one row", "all copies", "two rows", "collapsed", "opposite", "zero"])
def test_structure_is_finite_at_the_edges(form, case):
    z = rows(4, 3).float()
    first, second, ids = z, rows(4, 3, seed=1).float(), None
    if case in ("one row", "two rows"):
        count = 1 if case == "one row" else 2
        first, second = first[:count], second[:count]
    if case == "all copies":
        ids = torch.zeros(4, dtype=torch.int64)
    if case == "collapsed":
        first, second = z[:1].expand(4, 3), z[1:2].expand(4, 3)
    if case == "opposite":
        first, second = z[:1] * torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]), z[:1].expand(4, 3)
    if case == "zero":
        first = torch.zeros(4, 3)
    value = structural_similarity(first, second, ids, form=form)
    assert 0 <= value.item() < 500
    slopes = gradient(lambda a, b: structural_similarity(a, b, ids, form=form), first, second)
    assert all(bool(torch.isfinite(slope).all()) for slope in slopes)
    if case == "one row" or (case == "all copies" and form != "cka"):
        assert value == 0
        assert all(not slope.any() for slope in slopes)


@few
@given(seeds, st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.sampled_from([0.5, 2.0]))
def test_alignment_and_uniformity_equal_loops(seed, alpha, t):
    z, y = rows(8, 3, seed=seed), drawn_labels(8, seed)
    marks = torch.from_numpy(y)
    expected = slow_alignment(z, y, alpha), slow_uniformity(z, t), slow_class_uniformity(z, y, t)
    for x, tolerance in ((z, 1e-8), (z.float(), 1e-5)):
        got = alignment(x, make.labels(marks), alpha=alpha), uniformity(x, t=t), class_uniformity(x, make.labels(marks), t=t)
        assert [one.item() for one in got] == pytest.approx(expected, abs=tolerance)


@few
@given(seeds)
def test_alignment_and_uniformity_do_not_see_rotation_order_and_names_of_classes(seed):
    z, y = rows(8, 3, seed=seed), torch.from_numpy(drawn_labels(8, seed))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(8))
    moved, named = (z @ torch.linalg.qr(rows(3, 3, seed=seed + 1)).Q)[order], torch.where(y < 0, -1, 9 - y)[order]
    assert alignment(moved, make.labels(named)).item() == pytest.approx(alignment(z, make.labels(y)).item(), abs=1e-10)
    assert uniformity(moved).item() == pytest.approx(uniformity(z).item(), abs=1e-10)
    assert class_uniformity(moved, make.labels(named)).item() == pytest.approx(class_uniformity(z, make.labels(y)).item(), abs=1e-10)


@few
@given(seeds, st.sampled_from([0.5, 2.0]))
def test_alignment_and_uniformity_over_relations_and_references_equal_loops(seed, alpha):
    z, refs, relation = rows(5, 3, seed=seed), rows(4, 3, seed=seed + 1), random_relation(seed, 5, 4)
    positive, negative = (part.double().numpy() for part in relation.dense())
    u, v = directions(z), directions(refs)
    d = np.array([[math.dist(a, b) for b in v] for a in u])
    expected = (positive * d**alpha).sum() / max(positive.sum(), 1e-300)
    assert alignment(z, relation, refs, alpha=alpha).item() == pytest.approx(expected, abs=1e-8)
    said = (positive > 0) | (negative > 0)
    expected = math.log(np.exp(-2 * d[said] ** 2).mean()) if said.any() else 0
    assert uniformity(z, relation, refs).item() == pytest.approx(expected, abs=1e-10)


def test_each_pair_once_and_the_whole_matrix_say_the_same():
    z, y = rows(6, 3), torch.tensor([0, 0, 1, 1, 1, -1])
    for kin in (make.labels(y), make.weights(torch.rand(6, 6, generator=torch.Generator().manual_seed(0)), diagonal=True)):
        once = alignment(z, kin)
        assert alignment(z, kin, chunk=2).item() == pytest.approx(once.item(), abs=1e-12)
        losses, mass = alignment(z, kin, reduction="each")
        assert ((losses * mass).sum() / mass.sum()).item() == pytest.approx(once.item(), abs=1e-12)
    everything = make.views(torch.arange(3))
    assert uniformity(z, everything).item() == pytest.approx(uniformity(z).item(), abs=1e-12)
    some = make.labels(y)
    assert uniformity(z, some).item() == pytest.approx(uniformity(z[:5]).item(), abs=1e-12)


def test_alignment_weighs_pairs_by_the_relation():
    z = rows(3, 4)
    weights = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    u = directions(z)
    expected = (3 * math.dist(u[0], u[1]) ** 2 + 0.5 * math.dist(u[1], u[2]) ** 2) / 3.5
    assert alignment(z, make.weights(weights)).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_copies_single_classes_and_strangers_are_finite(alpha):
    same = rows(1, 3).float().expand(5, 3)
    for y in (torch.zeros(5, dtype=torch.int64), torch.arange(5), torch.full((5,), -1)):
        for function in (
            lambda z, y=y: alignment(z, make.labels(y), alpha=alpha),
            uniformity,
            lambda z, y=y: class_uniformity(z, make.labels(y)),
        ):
            (slope,) = gradient(function, same)
            assert function(same).item() == pytest.approx(0, abs=1e-6)
            assert bool(torch.isfinite(slope).all())
    assert uniformity(same[:1]) == 0
    assert alignment(same[:1], make.labels(torch.zeros(1, dtype=torch.int64))) == 0
    assert gradient(lambda z: alignment(z, make.labels(torch.zeros(1, dtype=torch.int64))), same[:1])[0].abs().sum() == 0
    assert class_uniformity(same[:1], make.labels(torch.zeros(1, dtype=torch.int64))) == 0


def test_gauges_say_the_same_where_they_say_the_same():
    z = rows(10, 4).float()
    pairs = torch.arange(5).repeat(2)
    assert alignment(z, make.labels(pairs)).item() == pytest.approx(float(gauges.alignment(z[:5], z[5:])), abs=1e-6)
    assert uniformity(z).item() == pytest.approx(float(gauges.uniformity(z)), abs=1e-6)


def test_the_gradient_at_distance_0_is_0_for_every_exponent():
    for alpha in (0.5, 1.0, 2.0):
        (slope,) = gradient(lambda d, alpha=alpha: mean_power(d, alpha), torch.tensor([0.0, 1.0]))
        assert slope.tolist() == [0, alpha / 2]


def test_what_is_not_finite_stays_so():
    distances = torch.tensor([0.5, math.nan, 0.0])
    assert mean_power(distances, 2.0).isnan()
    assert log_mean_potential(distances, 2.0).isnan()


def test_half_precision_is_computed_in_float32():
    low, other, y = rows(6, 4).bfloat16(), rows(6, 4, seed=1).bfloat16(), torch.tensor([0, 1, 0, 1, 2, 2])
    functions = [
        *(lambda a, b, form=form: structural_similarity(a, b, form=form) for form in FORMS),
        lambda a, b: alignment(a, make.labels(y)),
        lambda a, b: uniformity(a),
        lambda a, b: class_uniformity(a, make.labels(y)),
    ]
    for function in functions:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = function(low, other)
            assert torch.equal(function(low.float(), other.float()), value)
        assert value.dtype == torch.float32
        assert torch.equal(value, function(low.float(), other.float()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: structural_similarity(z, z, form="l1"), "form"),  # type: ignore[arg-type]
        (lambda z: structural_similarity(z, z, temperature=0.0), "temperature"),
        (lambda z: structural_similarity(z, z[:2]), "two views"),
        (lambda z: structural_similarity(z, z, torch.arange(3)), "one id"),
        (lambda z: structural_similarity(z[:0], z[:0]), "two views"),
        (lambda z: alignment(z, make.labels(torch.arange(3))), "relation"),
        (lambda z: alignment(z, make.labels(torch.arange(4)), alpha=0.0), "alpha"),
        (lambda z: uniformity(z[0]), "embeddings"),
        (lambda z: uniformity(z, t=-1.0), "t: expected"),
        (lambda z: class_uniformity(z, make.labels(torch.arange(3))), "relation"),
    ],
)
def test_borders(call, message):
    with pytest.raises(ConfigError, match=message):
        call(rows(4, 3))
