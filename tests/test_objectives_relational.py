"""Multi-similarity, margin contrastive, triplet, NBC-Softmax, Contra-X, ProtoNCE and cross-entropy against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.block_repulsion import block_repulsion
from kinshot.objectives.contra_x import contra_x
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.margin_contrastive import margin_contrastive
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.objectives.proto_nce import cluster_nce, densities, proto_nce
from kinshot.objectives.triplet import triplet
from tests import reference_objectives as ref
from tests.test_core_relations import as_listed, random_relation
from tests.test_objectives_info_nce import close, gradients, rows

OBJECTIVES = {
    "multi_similarity": multi_similarity,
    "multi_similarity without mining": lambda *a, **k: multi_similarity(*a, mining_margin=None, **k),
    "margin_contrastive": margin_contrastive,
    "triplet": triplet,
    "soft triplet": lambda *a, **k: triplet(*a, margin=None, distance="cosine", **k),
    "hard triplet": lambda *a, **k: triplet(*a, mining="hard", **k),
    "semi-hard triplet": lambda *a, **k: triplet(*a, mining="semi_hard", **k),
    "contra_x": contra_x,
}
every = pytest.mark.parametrize("name", list(OBJECTIVES))
seeds = st.integers(0, 10_000)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([None, 0.1, 10.0]))
def test_multi_similarity_equals_loops(seed, margin):
    z, r, relation = rows(4, 3, seed=seed), rows(6, 3, seed=seed + 1), random_relation(seed)
    P, N = (x.double().numpy() for x in relation.dense())
    expected = ref.multi_similarity(z.numpy(), r.numpy(), P, N, 2, 40, 0.5, margin)
    for one in (relation, Relation(as_listed(relation.positive), as_listed(relation.negative), (4, 6))):
        assert multi_similarity(z, one, r, mining_margin=margin).item() == pytest.approx(expected, abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_margin_contrastive_equals_loops_for_listed_and_dense_pairs(seed):
    z, r, relation = rows(4, 3, seed=seed), rows(6, 3, seed=seed + 1), random_relation(seed)
    P, N = (x.double().numpy() for x in relation.dense())
    expected = ref.margin_contrastive(z.numpy(), r.numpy(), P, N, 0.5, 2.0)
    positive, negative = as_listed(relation.positive), as_listed(relation.negative)
    for p, n in ((relation.positive, relation.negative), (positive, negative), (positive, relation.negative)):
        got = margin_contrastive(z, Relation(p, n, (4, 6)), r, positive_margin=0.5, negative_margin=2.0)
        assert got.item() == pytest.approx(expected, abs=1e-10)


def test_margin_contrastive_on_one_linked_and_one_unlinked_partner():
    z, linked, unlinked = rows(5, 3), rows(5, 3, seed=1), rows(5, 3, seed=2)
    near = [torch.norm(a - b + 1e-6).item() for a, b in zip(z, linked, strict=True)]
    far = [max(0, 10 - torch.norm(a - b + 1e-6).item()) for a, b in zip(z, unlinked, strict=True)]
    own = torch.arange(5)
    relations = [make.listed(own, size=5), make.listed(None, own, size=5)]
    assert margin_contrastive(z, relations, [linked, unlinked]).item() == pytest.approx(sum(near + far) / 10, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(["all", "hard", "semi_hard"]), st.sampled_from([None, 0.2]), st.booleans())
def test_triplet_equals_loops(seed, mining, margin, squared):
    z, relation = rows(6, 3, seed=seed), random_relation(seed, 6, 6)
    P, N = (x.double().numpy() for x in relation.dense())
    expected = ref.triplet(z.numpy(), P, N, margin, mining, squared)
    assert triplet(z, relation, mining=mining, margin=margin, squared=squared).item() == pytest.approx(expected, abs=1e-10)


def test_contra_x_equals_loops():
    z, y = rows(6, 4), torch.tensor([0, 1, 0, 2, 1, 0])
    assert contra_x(z, make.labels(y)).item() == pytest.approx(ref.contra_x(z.numpy(), y.tolist(), 0.1), abs=1e-10)


def test_contra_x_leaves_unknown_pairs_out():
    z = rows(5, 4)
    known = contra_x(z[:4], make.labels(torch.tensor([0, 1, 0, 1])), reduction="none")
    some = contra_x(z, make.labels(torch.tensor([0, 1, 0, 1, -1])), reduction="none")
    close(some[:4], known)
    assert some[4] == 0


@every
@settings(max_examples=5, deadline=None)
@given(seed=seeds)
def test_order_does_not_matter(name, seed):
    loss = OBJECTIVES[name]
    z, order = rows(6, 3, seed=seed), torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    relation = random_relation(seed, 6, 6)
    relation = relation.without(torch.eye(6, dtype=torch.bool))
    moved = Relation(*(Mask(part[order][:, order]) for part in relation.dense()), (6, 6))
    (value, (grad,)), (again, (moved_grad,)) = gradients(lambda x: loss(x, relation), z), gradients(lambda x: loss(x, moved), z[order])
    close(value, again, 1e-10)
    close(grad[order], moved_grad, 1e-10)
    close(loss(z, relation, reduction="none")[order], loss(z[order], moved, reduction="none"), 1e-10)


@every
@pytest.mark.parametrize("chunk", [1, 4])
def test_chunks_give_the_same(name, chunk):
    loss, z, relation = OBJECTIVES[name], rows(6, 3), random_relation(3, 6, 6)
    full, some = (gradients(lambda x, c=size: loss(x, relation, chunk=c), z) for size in (None, chunk))
    close(full[0], some[0])
    close(full[1][0], some[1][0])


@every
def test_gradcheck(name):
    relation = make.labels(torch.tensor([0, 0, 1, 1, -1]))
    assert torch.autograd.gradcheck(lambda x: OBJECTIVES[name](x, relation), (rows(5, 3).requires_grad_(),))


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "contra_x"])
def test_sets_of_references_count_as_one(name):
    z, r, s = rows(4, 3), rows(6, 3, seed=1), rows(5, 3, seed=2)
    one, two = random_relation(1), random_relation(5, 4, 5)
    joined = make.weights(*(torch.cat(p, dim=1) for p in zip(one.dense(), two.dense(), strict=True)), diagonal=True)
    close(OBJECTIVES[name](z, [one, two], [r, s]), OBJECTIVES[name](z, joined, torch.cat([r, s])), 1e-10)


@pytest.mark.parametrize("name", list(OBJECTIVES)[2:])
def test_two_copies_of_one_node_are_kin(name):
    ids = torch.tensor([4, 9, 4])
    z = rows(3, 3)
    far = z.clone()
    far[2] = -z[0]
    near = z.clone()
    near[2] = z[0]
    relation = make.views(ids, 1)
    assert OBJECTIVES[name](near, relation) < OBJECTIVES[name](far, relation)


def test_block_repulsion_equals_loops():
    z, y = rows(7, 3), torch.tensor([0, 1, 0, 3, 3, -1, 1])
    expected = ref.block_repulsion(z.numpy(), y.tolist(), 5, 0.2)
    assert block_repulsion(z, make.labels(y), classes=5).item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: block_repulsion(x, make.labels(y), classes=5), (z.requires_grad_(),))
    close(block_repulsion(z, make.labels(y)), block_repulsion(z, make.labels(y), classes=3))
    value, (grad,) = gradients(lambda x: block_repulsion(x, make.labels(torch.full((7,), -1)), classes=5), z)
    assert value == 0
    assert (grad == 0).all()


def test_densities_and_proto_nce_equal_loops():
    z, centers = rows(12, 3), [rows(4, 3, seed=1), rows(3, 3, seed=2)]
    own = [torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 3]), torch.arange(12) % 3]
    phi = [densities(z, c, y) for c, y in zip(centers, own, strict=True)]
    for c, y, p in zip(centers, own, phi, strict=True):
        np.testing.assert_allclose(p, ref.densities(z.numpy(), c.numpy(), y.tolist(), 0.2, 10, 0.1, 0.9), atol=1e-12)
        assert p.mean().item() == pytest.approx(0.2)
    expected = ref.proto_nce(z.numpy(), [c.numpy() for c in centers], [y.tolist() for y in own], [p.numpy() for p in phi])
    assert cluster_nce(z, centers, own, phi).item() == pytest.approx(expected, abs=1e-11)
    constant = (np.log(12 / 4) + np.log(12 / 3)) / 2
    assert cluster_nce(z, centers, own, phi, mean_denominator=True).item() == pytest.approx(expected + constant, abs=1e-11)
    assert torch.autograd.gradcheck(lambda x: cluster_nce(x, centers, own, phi), (z.requires_grad_(),))


def test_proto_nce_without_a_cluster_and_densities_without_spread():
    z, c = rows(3, 2), rows(2, 2, seed=1)
    nobody = torch.full((3,), -1)
    close(densities(z, c, nobody), torch.full((2,), 0.2, dtype=torch.float64))
    close(densities(c, c, torch.arange(2)), torch.full((2,), 0.2, dtype=torch.float64))
    value, (grad,) = gradients(lambda x: cluster_nce(x, c, nobody, torch.ones(2)), z)
    assert value == 0
    assert (grad == 0).all()


def test_proto_nce_of_classes_is_that_of_their_means_in_the_batch():
    z, y = rows(7, 3), torch.tensor([5, 5, 0, 0, 0, -1, 9])
    u = torch.nn.functional.normalize(z, dim=1)
    centers = torch.stack([u[2:5].mean(0), u[:2].mean(0), u[6]])
    own = torch.tensor([1, 1, 0, 0, 0, -1, 2])
    phi = ref.densities(z.numpy(), centers.numpy(), own.tolist(), 0.3, 10, 0.1, 0.9)
    expected = ref.proto_nce(z[own >= 0].numpy(), [centers.numpy()], [own[own >= 0].tolist()], [phi])
    assert proto_nce(z, make.labels(y), temperature=0.3, reduction="valid").item() == pytest.approx(expected, abs=1e-11)
    assert proto_nce(z, make.labels(y), temperature=0.3).item() == pytest.approx(expected * 6 / 7, abs=1e-11)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_equals_loops(smoothing):
    logits, y = rows(6, 4), torch.tensor([0, 3, 1, 2, 2, 0])
    got = cross_entropy(logits, y, smoothing=smoothing)
    assert got.item() == pytest.approx(ref.cross_entropy(logits.numpy(), y.tolist(), smoothing), abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, y, smoothing=smoothing), (logits.requires_grad_(),))
    unknown = torch.tensor([0, 3, 1, -1, -1, -1])
    close(cross_entropy(logits, unknown, smoothing=smoothing, reduction="valid"), cross_entropy(logits[:3], y[:3], smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_smoothing_spread_to_all_classes_is_pytorchs(smoothing):
    for dtype in (torch.float64, torch.float32):
        logits, y = rows(6, 4, dtype=dtype), torch.tensor([0, 3, 1, 2, 2, 0])
        ours, theirs = (
            gradients(loss, logits)
            for loss in (
                lambda x, y=y: cross_entropy(x, y, smoothing=smoothing, spread="all"),
                lambda x, y=y: torch.nn.functional.cross_entropy(x, y, label_smoothing=smoothing),
            )
        )
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1][0], theirs[1][0])
    expected = ref.cross_entropy_spread_to_all(rows(6, 4).numpy(), y.tolist(), smoothing)
    assert cross_entropy(rows(6, 4), y, smoothing=smoothing, spread="all").item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spread", ["others", "all"])
def test_rows_of_unknown_classes_cost_nothing(spread):
    logits, y = rows(6, 4), torch.tensor([0, 3, 1, -1, -1, -1])
    known = cross_entropy(logits[:3], y[:3], smoothing=0.1, spread=spread)
    close(cross_entropy(logits, y, smoothing=0.1, spread=spread, reduction="valid"), known)
    close(cross_entropy(logits, y, smoothing=0.1, spread=spread), known / 2)
    for reduction in ("mean", "valid"):
        value, (grad,) = gradients(lambda x, r=reduction: cross_entropy(x, torch.full((6,), -1), spread=spread, reduction=r), logits)
        assert value == 0
        assert (grad == 0).all()


def test_two_ways_to_smooth_have_one_gradient_at_corresponding_shares():
    logits, y = rows(5, 4), torch.tensor([0, 3, 1, 2, 2])
    _, (others,) = gradients(lambda x: cross_entropy(x, y, smoothing=0.15), logits)
    _, (every,) = gradients(lambda x: cross_entropy(x, y, smoothing=0.15 * 4 / 3, spread="all"), logits)
    close(others, every)


def test_multi_similarity_equals_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    z, y = rows(8, 5), torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])
    theirs = losses.MultiSimilarityLoss(alpha=2, beta=40, base=0.5)(z, y)
    close(multi_similarity(z, make.labels(y), mining_margin=None), theirs)


def test_sup_con_and_triplet_equal_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    from kinshot.objectives.sup_con import sup_con

    z, y = rows(8, 5), torch.tensor([0, 1, 0, 1, 2, 3, 0, 1])
    close(sup_con(z, make.labels(y), temperature=0.2), losses.SupConLoss(temperature=0.2, reducer=reducers.MeanReducer())(z, y))
    close(sup_con(z, make.labels(y), temperature=0.2, reduction="valid"), losses.SupConLoss(temperature=0.2)(z, y))
    close(triplet(z, make.labels(y), margin=0.2), losses.TripletMarginLoss(margin=0.2, reducer=reducers.MeanReducer())(z, y))
    close(triplet(z, make.labels(y), margin=0.2, reduction="valid"), losses.TripletMarginLoss(margin=0.2)(z, y))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda z, y: multi_similarity(z, make.labels(y), positive_scale=0), "positive_scale"),
        (lambda z, y: multi_similarity(z, make.labels(y), mining_margin=float("nan")), "mining_margin"),
        (lambda z, y: margin_contrastive(z, make.labels(y), positive_margin=3, negative_margin=2), "margins"),
        (lambda z, y: margin_contrastive(z, make.labels(y), normalize=True), "negative_margin"),
        (lambda z, y: triplet(z, make.labels(y), margin=0.0), "margin"),
        (lambda z, y: triplet(z, make.labels(y), margin=2.0), "margin: expected less than 2"),
        (lambda z, y: triplet(z, make.labels(y), margin=4.0, squared=True), "margin: expected less than 4"),
        (lambda z, y: triplet(z, make.labels(y), distance="cosine", squared=True), "squared"),
        (lambda z, y: triplet(z, make.labels(y), mining="easy"), "mining"),
        (lambda z, y: triplet(z, make.labels(y), distance="cosine", normalize=False), "distance"),
        (lambda z, y: contra_x(z, make.labels(y), temperature=0), "temperature"),
        (lambda z, y: block_repulsion(z, make.labels(y[:2]), classes=3), "relation"),
        (lambda z, y: block_repulsion(z, make.labels(y), classes=0), "classes"),
        (lambda z, y: cross_entropy(z, y, smoothing=1.0), "smoothing"),
        (lambda z, y: cross_entropy(z, y, spread="half"), "spread"),
        (lambda z, y: cross_entropy(z, y[:2]), "label"),
        (lambda z, y: densities(z, z, y, temperature=0), "temperature"),
        (lambda z, y: densities(z, z, y, clip=(0.9, 0.1)), "clip"),
        (lambda z, y: proto_nce(z, make.labels(y), smoothing=-1.0), "smoothing"),
        (lambda z, y: proto_nce(z, make.labels(y[:2])), "relation"),
        (lambda z, y: cluster_nce(z, z, y, torch.ones(2)), "density"),
        (lambda z, y: cluster_nce(z, [z, z], [y], [z[:, 0]]), "as many"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ConfigError, match=words):
        build(rows(4, 3), torch.tensor([0, 0, 1, 1]))
