"""Pair-based objectives of metric learning against loops in float64, in value and, by central differences of the loops, in gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.cbml import cbml
from kinshot.objectives.gaussian_mixture import gaussian_mixture
from kinshot.objectives.info_nce import info_nce
from kinshot.objectives.lifted import lifted
from kinshot.objectives.margin_contrastive import margin_contrastive
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.objectives.n_pair import n_pair
from kinshot.objectives.nca import nca
from kinshot.objectives.sup_con import sup_con
from kinshot.objectives.triplet import triplet
from kinshot.objectives.wrt import wrt
from tests import reference_objectives
from tests import reference_pairs as ref
from tests.test_core_relations import as_listed, random_relation
from tests.test_objectives_info_nce import close, gradients, rows

Y = torch.tensor([0, 1, 0, 2, 1, -1, 0])


def mean_of(losses):
    return lambda *given, **settings: ref.mean(losses(*given, **settings))


# name: the objective, and the scalar that the loops give of (z, r, P, N), P and N being weights
RELATIONAL = {
    "n_pair": (lambda *a, **k: n_pair(*a, norm_penalty=0.2, reduction="valid", **k), lambda *a: ref.mean(ref.n_pair(*a, 0.2))),
    "n_pair without penalty": (
        lambda *a, **k: n_pair(*a, norm_penalty=0.0, reduction="valid", **k),
        lambda *a: ref.mean(ref.n_pair(*a, 0.0)),
    ),
    "lifted": (lambda *a, **k: lifted(*a, margin=0.7, **k), lambda *a: ref.lifted(*a, 0.7)),
    "generalized lifted": (
        lambda *a, **k: lifted(*a, form="generalized", reduction="valid", **k),
        lambda *a: ref.mean(ref.generalized_lifted(*a, 1.0)),
    ),
    "nca": (lambda *a, **k: nca(*a, temperature=0.8, reduction="valid", **k), lambda *a: ref.mean(ref.nca(*a, 0.8, "log"))),
    "nca expected": (lambda *a, **k: nca(*a, form="expected", reduction="valid", **k), lambda *a: ref.mean(ref.nca(*a, 1.0, "expected"))),
    "wrt": (lambda *a, **k: wrt(*a, reduction="valid", **k), lambda *a: ref.mean(ref.wrt(*a))),
    "wrt with itself": (
        lambda *a, **k: wrt(*a, include_self=True, reduction="valid", **k),
        lambda *a: ref.mean(ref.wrt(*a, include_self=True)),
    ),
}
of_relations = pytest.mark.parametrize("name", list(RELATIONAL))


@of_relations
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_value_and_gradient_of_a_weighted_relation_to_references_equal_loops(name, seed):
    loss, loops = RELATIONAL[name]
    z, r, relation = rows(4, 3, seed=seed), rows(6, 3, seed=seed + 50), random_relation(seed)
    P, N = (x.double().numpy() for x in relation.dense())
    value, (to_z, to_r) = gradients(lambda x, s: loss(x, relation, s), z, r)
    assert value.item() == pytest.approx(loops(z.numpy(), r.numpy(), P, N), abs=1e-11)
    np.testing.assert_allclose(to_z, ref.gradient(lambda x: loops(x, r.numpy(), P, N), z.numpy()), atol=1e-7)
    np.testing.assert_allclose(to_r, ref.gradient(lambda x: loops(z.numpy(), x, P, N), r.numpy()), atol=1e-7)


@of_relations
def test_value_and_gradient_of_a_batch_with_labels_equal_loops(name):
    loss, loops = RELATIONAL[name]
    z, relation = rows(7, 3), make.labels(Y)
    P, N = (x.double().numpy() for x in relation.dense())
    value, (grad,) = gradients(lambda x: loss(x, relation), z)
    assert value.item() == pytest.approx(loops(z.numpy(), z.numpy(), P, N), abs=1e-11)
    np.testing.assert_allclose(grad, ref.gradient(lambda x: loops(x, x, P, N), z.numpy()), atol=1e-7)


@of_relations
def test_unit_rows_are_those_of_loops(name):
    loss, loops = RELATIONAL[name]
    z, relation = rows(7, 3), make.labels(Y)
    P, N = (x.double().numpy() for x in relation.dense())
    value, (grad,) = gradients(lambda x: loss(x, relation, normalize=True), z)
    assert value.item() == pytest.approx(loops(ref.unit(z.numpy()), ref.unit(z.numpy()), P, N), abs=1e-11)
    np.testing.assert_allclose(grad, ref.gradient(lambda x: loops(ref.unit(x), ref.unit(x), P, N), z.numpy()), atol=1e-7)


@of_relations
def test_large_rows_do_not_overflow(name):
    loss = RELATIONAL[name][0]
    value, (grad,) = gradients(lambda x: loss(x, make.labels(Y)), 300 * rows(7, 3, dtype=torch.float32))
    assert torch.isfinite(value)
    assert torch.isfinite(grad).all()


@of_relations
def test_a_reduction_over_all_counts_what_has_no_kin_as_0(name):
    loss = RELATIONAL[name][0]
    z = rows(7, 3)
    alone = RELATIONAL[name][0](z[:5], make.labels(Y[:5]))
    assert loss(z, make.labels(torch.tensor([*Y[:5].tolist(), -1, -1]))).item() == pytest.approx(alone.item(), abs=1e-12)


def test_n_pair_of_one_kin_each_is_cross_entropy_of_products():
    """The batch of the paper: first samples and second ones, one pair of each class."""
    a, p = rows(5, 4), rows(5, 4, seed=1)
    expected = torch.nn.functional.cross_entropy(a @ p.T, torch.arange(5))
    kin = make.labels(torch.arange(5), torch.arange(5))
    close(n_pair(a, kin, p, norm_penalty=0.0), expected)
    norms = (a.square().sum(1).mean() + p.square().sum(1).mean()) / 4
    close(n_pair(a, kin, p), expected + 0.002 * norms)


def test_n_pair_of_several_kin_takes_each_alone():
    z, kin = rows(7, 3), make.labels(Y)
    close(n_pair(z, kin, norm_penalty=0.0), info_nce(z, kin, temperature=1.0, denominator="own", normalize=False))


def test_lifted_structure_equals_pytorch_metric_learning():
    losses, distances = (pytest.importorskip(f"pytorch_metric_learning.{name}") for name in ("losses", "distances"))
    z, y = rows(8, 5), torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])
    theirs = losses.LiftedStructureLoss(neg_margin=1.0, distance=distances.LpDistance(normalize_embeddings=False))
    close(lifted(z, make.labels(y)), theirs(z, y))
    theirs = losses.GeneralizedLiftedStructureLoss(neg_margin=1.0, distance=distances.LpDistance(normalize_embeddings=False))
    close(lifted(z, make.labels(y), form="generalized", reduction="valid"), theirs(z, y))


def test_nca_equals_pytorch_metric_learning():
    losses, distances = (pytest.importorskip(f"pytorch_metric_learning.{name}") for name in ("losses", "distances"))
    z, y = rows(8, 5), torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])
    theirs = losses.NCALoss(softmax_scale=2.0, distance=distances.LpDistance(normalize_embeddings=False, power=2))
    close(nca(z, make.labels(y), temperature=0.5), theirs(z, y))


def test_nca_pulls_an_anchor_that_is_far_from_its_kin_by_the_logarithm_alone():
    z = torch.tensor([[0.0], [30.0], [1.0]])
    kin = make.labels(torch.tensor([0, 0, 1]))
    grads = [gradients(lambda x, f=form: nca(x, kin, form=f), z)[1][0] for form in ("log", "expected")]
    assert grads[0].abs().max() > 1
    assert grads[1].abs().max() < 1e-6


def test_weights_of_wrt_can_be_constants():
    z, relation = rows(7, 3), make.labels(Y)
    P, N = (x.double().numpy() for x in relation.dense())
    at = (z.numpy(), z.numpy())
    value, (grad,) = gradients(lambda x: wrt(x, relation, detach_weights=True, reduction="valid"), z)
    assert value == wrt(z, relation, reduction="valid")
    np.testing.assert_allclose(grad, ref.gradient(lambda x: ref.mean(ref.wrt(x, x, P, N, fixed=at)), z.numpy()), atol=1e-7)
    assert (grad - gradients(lambda x: wrt(x, relation, reduction="valid"), z)[1][0]).abs().max() > 1e-3


def test_wrt_with_itself_is_that_of_a_relation_in_which_an_anchor_is_its_own_kin():
    """The batch of the released code, whose distance of a row to itself is 0 up to its clamp."""
    z, y = rows(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    positive, negative = make.labels(y).dense()
    own = Relation(Mask(positive.fill_diagonal_(1)), Mask(negative), (6, 6))
    close(wrt(z, make.labels(y), include_self=True), wrt(z, own))


@pytest.mark.parametrize("error", ["squared", "cross_entropy"])
@pytest.mark.parametrize("width", [1.0, 0.6])
def test_gaussian_mixture_equals_loops_in_value_and_gradient(error, width):
    z = rows(7, 3)
    value, (grad,) = gradients(lambda x: gaussian_mixture(x, make.labels(Y), error=error, width=width, reduction="valid"), z)
    assert value.item() == pytest.approx(ref.mean(ref.gaussian_mixture(z.numpy(), Y.tolist(), width, error)), abs=1e-12)
    expected = ref.gradient(lambda x: ref.mean(ref.gaussian_mixture(x, Y.tolist(), width, error)), z.numpy())
    np.testing.assert_allclose(grad, expected, atol=1e-8)
    close(gaussian_mixture(z, make.labels(Y), error=error, width=width) * 7 / 6, value)


def test_gaussian_mixture_pulls_a_row_that_is_far_from_every_mean():
    z = torch.tensor([[0.0, 0.0], [0.2, 0.0], [200.0, 0.0], [60.0, 30.0]])
    value, (grad,) = gradients(lambda x: gaussian_mixture(x, make.labels(torch.tensor([0, 0, 1, 1])), error="cross_entropy"), z)
    assert torch.isfinite(value)
    assert torch.isfinite(grad).all()
    assert grad[3].abs().max() > 0.1


@pytest.mark.parametrize("measure", ["distance", "squared_distance", "similarity"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(("sides", "reduction"), [("together", "mean"), ("together", "valid"), ("apart", "mean"), ("apart", "valid")])
def test_every_form_of_the_contrastive_loss_equals_loops_in_value_and_gradient(measure, squared, sides, reduction):
    z, r, relation = rows(4, 3, seed=1), rows(6, 3, seed=51), random_relation(1)
    P, N = (x.double().numpy() for x in relation.dense())
    mp, mn = (0.9, 0.3) if measure == "similarity" else (0.5, 2.0)
    given = {"measure": measure, "squared": squared, "sides": sides, "reduction": reduction, "eps": 0.0}

    def loops(x, s):
        return ref.contrastive(x, s, P, N, mp, mn, measure, squared, sides == "apart", reduction == "valid")

    listed = Relation(as_listed(relation.positive), as_listed(relation.negative), (4, 6))
    for one in (relation, listed, Relation(relation.positive, listed.negative, (4, 6))):
        value, (to_z, to_r) = gradients(
            lambda x, s, k=one: margin_contrastive(x, k, s, positive_margin=mp, negative_margin=mn, **given), z, r
        )
        assert value.item() == pytest.approx(loops(z.numpy(), r.numpy()), abs=1e-11)
        np.testing.assert_allclose(to_z, ref.gradient(lambda x: loops(x, r.numpy()), z.numpy()), atol=1e-7)
        np.testing.assert_allclose(to_r, ref.gradient(lambda x: loops(z.numpy(), x), r.numpy()), atol=1e-7)


def test_contrastive_equals_pytorch_metric_learning_and_hadsell():
    losses, distances = (pytest.importorskip(f"pytorch_metric_learning.{name}") for name in ("losses", "distances"))
    z, y = rows(8, 5), torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])
    kin, given = make.labels(y), {"negative_margin": 1.0, "normalize": True, "sides": "apart", "reduction": "valid", "eps": 0.0}
    close(margin_contrastive(z, kin, **given), losses.ContrastiveLoss()(z, y))
    close(
        margin_contrastive(z, kin, measure="squared_distance", **given),
        losses.ContrastiveLoss(distance=distances.LpDistance(power=2))(z, y),
    )
    given |= {"positive_margin": 0.8, "negative_margin": 0.5, "measure": "similarity"}
    theirs = losses.ContrastiveLoss(pos_margin=0.8, neg_margin=0.5, distance=distances.CosineSimilarity())
    close(margin_contrastive(z, kin, **given), theirs(z, y))
    d = torch.cdist(z[:4], z[4:])
    same = y[:4, None] == y[4:]
    hadsell = torch.where(same, d.square() / 2, torch.relu(3 - d).square() / 2).mean()
    close(margin_contrastive(z[:4], make.labels(y[:4], y[4:]), z[4:], negative_margin=3.0, squared=True, eps=0.0) / 2, hadsell)


def test_sides_apart_count_alike_however_many_pairs_they_have():
    z, y = rows(8, 3), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    few, many = make.labels(y[:4]), make.labels(y[:4]).dense()
    listed = Relation(Mask(many[0]), Mask(many[1] * 7), (4, 4))  # as if there were seven of each other
    for sides, alike in (("apart", True), ("together", False)):
        values = [margin_contrastive(z[:4], kin, sides=sides) for kin in (few, listed)]
        assert torch.isclose(*values) == alike


CBML = [
    {},
    {"link": "sqrt"},
    {"link": "constant"},
    {"mining_margin": None},
    {"mining_margin": None, "hardest": 2},
    {"hardest": 1},
    {"variance": "mean", "balance": 0.2},
    {"variance_weight": 0.0, "negative_width": 0.2, "positive_center": 0.3},
]
NAMES = {
    "link": "link",
    "mining_margin": "margin",
    "hardest": "hardest",
    "variance": "variance",
    "balance": "h",
    "variance_weight": "v",
    "negative_width": "bn",
    "positive_center": "ap",
}


@pytest.mark.parametrize("given", CBML, ids=str)
def test_cbml_equals_loops_in_value_and_gradient(given):
    z, r, relation = rows(4, 3, seed=1), rows(8, 3, seed=51), random_relation(1, 4, 8)
    P, N = (x.double().numpy() for x in relation.dense())

    def loops(x, s):
        return ref.mean(ref.cbml(x, s, P, N, **{"link": "log", **{NAMES[key]: v for key, v in given.items()}}))

    value, (to_z, to_r) = gradients(lambda x, s: cbml(x, relation, s, reduction="valid", **given), z, r)
    assert value.item() == pytest.approx(loops(z.numpy(), r.numpy()), abs=1e-11)
    np.testing.assert_allclose(to_z, ref.gradient(lambda x: loops(x, r.numpy()), z.numpy()), atol=1e-6)
    np.testing.assert_allclose(to_r, ref.gradient(lambda x: loops(z.numpy(), x), r.numpy()), atol=1e-6)


def test_cbml_divides_by_all_anchors_of_the_batch():
    z, kin = rows(7, 3), make.labels(Y)
    P, N = (x.double().numpy() for x in kin.dense())
    losses = [v for v in ref.cbml(z.numpy(), z.numpy(), P, N, "log") if v is not None]
    assert 0 < len(losses) < 7
    assert cbml(z, kin).item() == pytest.approx(sum(losses) / 7, abs=1e-11)


def test_kin_that_are_copies_can_be_left_out():
    z, y = rows(4, 3), torch.tensor([0, 0, 0, 1])
    z[1] = 2 * z[0]
    without = make.labels(y).without(torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]) > 0)
    given = {"mining_margin": None}
    close(cbml(z, make.labels(y), **given), cbml(z, without, **given))
    assert cbml(z, make.labels(y), drop_identical=False, **given) != cbml(z, without, **given)
    close(multi_similarity(z, make.labels(y), drop_identical=True, **given), multi_similarity(z, without, **given))
    assert multi_similarity(z, make.labels(y), **given) != multi_similarity(z, without, **given)


def test_multi_similarity_has_a_threshold_of_its_own_for_the_others():
    z, y = rows(7, 4), make.labels(Y)
    given = {"mining_margin": None, "reduction": "sum", "normalize": True}
    pulls = multi_similarity(z, y, threshold=0.7, negative_threshold=5.0, **given)  # so that the others cost nothing
    pushes = multi_similarity(z, y, threshold=-5.0, negative_threshold=0.3, **given)
    close(multi_similarity(z, y, threshold=0.7, negative_threshold=0.3, **given), pulls + pushes, 1e-3)
    close(multi_similarity(z, y, threshold=0.4, negative_threshold=0.4, **given), multi_similarity(z, y, threshold=0.4, **given))


@pytest.mark.parametrize("mining", ["hard", "hard_negative"])
@pytest.mark.parametrize(
    ("given", "cost"),
    [
        ({"margin": 0.3}, lambda gap: max(0.0, gap + 0.3)),
        ({"margin": None}, lambda gap: math.log1p(math.exp(gap))),
        ({"margin": 0.2, "sharpness": 5.0}, lambda gap: math.log1p(math.exp(5 * (gap + 0.2))) / 5),
        ({"margin": None, "sharpness": 5.0}, lambda gap: math.log1p(math.exp(5 * gap)) / 5),
    ],
    ids=["hinge", "soft", "sharp with margin", "sharp"],
)
def test_triplets_of_raw_rows_with_any_cost_equal_loops_in_value_and_gradient(mining, given, cost):
    z, r, relation = rows(4, 3, seed=2), rows(6, 3, seed=52), random_relation(2)
    P, N = (x.double().numpy() for x in relation.dense())

    def loops(x, s):
        return ref.triplet(x, s, P, N, mining, cost)

    value, (to_z, to_r) = gradients(lambda x, s: triplet(x, relation, s, mining=mining, normalize=False, **given), z, r)
    assert value.item() == pytest.approx(loops(z.numpy(), r.numpy()), abs=1e-9)
    np.testing.assert_allclose(to_z, ref.gradient(lambda x: loops(x, r.numpy()), z.numpy()), atol=1e-7)
    np.testing.assert_allclose(to_r, ref.gradient(lambda x: loops(z.numpy(), x), r.numpy()), atol=1e-7)


def test_sup_con_in_both_forms_is_info_nce_of_that_form():
    z, y = rows(7, 3), make.labels(Y)
    P, N = (x.double().numpy() for x in y.dense())
    found = {form: sup_con(z, y, temperature=0.3, form=form) for form in ("out", "in")}
    for form, value in found.items():
        expected = sum(reference_objectives.info_nce(z.numpy(), z.numpy(), P, N, 0.3, form)) / 7
        assert value.item() == pytest.approx(expected, abs=1e-11)
    assert found["in"] < found["out"]  # the logarithm is concave


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda z, kin: n_pair(z, kin, norm_penalty=-0.1), "norm_penalty"),
        (lambda z, kin: cbml(z, kin, link="linear"), "link"),
        (lambda z, kin: cbml(z, kin, link="sqrt", normalize=False), "link.*normalize"),
        (lambda z, kin: cbml(z, kin, balance=1.5), "balance"),
        (lambda z, kin: cbml(z, kin, hardest=0), "hardest"),
        (lambda z, kin: cbml(z, kin, variance="max"), "variance"),
        (lambda z, kin: cbml(z, kin, mining_margin=float("nan")), "mining_margin"),
        (lambda z, kin: lifted(z, kin, form="smooth"), "form"),
        (lambda z, kin: lifted(z, kin, margin=float("nan")), "margin"),
        (lambda z, kin: lifted(z, kin, z.expand(4, 4, 3)), "refs: lifted.*generalized"),
        (lambda z, kin: margin_contrastive(z, kin, measure="angle"), "measure"),
        (lambda z, kin: margin_contrastive(z, kin, sides="both"), "sides"),
        (lambda z, kin: margin_contrastive(z, kin, measure="similarity"), "margins: of similarities.*10"),
        (
            lambda z, kin: margin_contrastive(z, kin, positive_margin=1.2, negative_margin=0, measure="similarity", normalize=True),
            "margins",
        ),
        (lambda z, kin: margin_contrastive(z, kin, negative_margin=4, measure="squared_distance", normalize=True), "less than 4"),
        (lambda z, kin: triplet(z, kin, sharpness=0.0), "sharpness"),
        (lambda z, kin: sup_con(z, kin, form="both"), "form"),
        (lambda z, kin: nca(z, kin, temperature=0.0), "temperature"),
        (lambda z, kin: nca(z, kin, form="sum"), "form"),
        (lambda z, kin: gaussian_mixture(z, kin, width=0.0), "width"),
        (lambda z, kin: gaussian_mixture(z, kin, error="absolute"), "error"),
        (lambda z, kin: gaussian_mixture(z, kin, z), "gaussian_mixture.*references"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ConfigError, match=words):
        build(rows(4, 3), make.labels(torch.tensor([0, 0, 1, 1])))
