"""InfoNCE over relations and SupCon: against loops, in all forms, in chunks, with anchors that have no kin."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.parts import Block, Listed, Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.block import block_logsumexp
from kinshot.objectives.info_nce import info_nce, key_info_nce
from kinshot.objectives.nt_xent import nt_xent
from kinshot.objectives.sup_con import sup_con
from tests import reference_objectives as ref
from tests.test_core_relations import as_listed, random_relation

VARIANTS = list(itertools.product(["out", "in"], ["all", "own", "negatives"]))


def rows(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gradients(function, *tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    value = function(*leaves)
    value.backward()
    return value.detach(), [leaf.grad for leaf in leaves]


def close(one, other, tolerance=1e-12):
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_equals_loops_whatever_form_the_relation_has(seed):
    z, r = rows(4, 3, seed=seed), rows(6, 3, seed=seed + 1)
    mask = random_relation(seed)
    listed = Relation(as_listed(mask.positive), as_listed(mask.negative), mask.shape)
    mixed = Relation(as_listed(mask.positive), mask.negative, mask.shape)
    P, N = (x.double().numpy() for x in mask.dense())
    for form, denominator in VARIANTS:
        expected = ref.info_nce(z.numpy(), r.numpy(), P, N, 0.3, form, denominator)
        for relation in (mask, listed, mixed):
            got = info_nce(z, relation, r, temperature=0.3, form=form, denominator=denominator, reduction="none")
            np.testing.assert_allclose(got.numpy(), expected, atol=1e-11)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_gradients_do_not_depend_on_the_form(seed):
    z, r = rows(5, 3, seed=seed), rows(9, 3, seed=seed + 1)
    g = torch.Generator().manual_seed(seed)
    kin = torch.stack([torch.randperm(9, generator=g)[:2] for _ in range(5)])
    block = Relation(Listed(kin), Block(5, 9, kin), (5, 9))
    P, N = block.dense()
    holed = Block(5, 9, torch.cat([kin, torch.full((5, 1), -1)], dim=1))
    forms = [
        block,
        Relation(Listed(kin), holed, (5, 9)),
        Relation(Mask(P > 0), Mask(N > 0), (5, 9)),
        Relation(Listed(kin), Mask(N), (5, 9)),
    ]
    for form, denominator in VARIANTS:
        values = [gradients(lambda a, b, f=f, d=denominator, k=form: info_nce(a, f, b, form=k, denominator=d), z, r) for f in forms]
        for value, grads in values[1:]:
            close(value, values[0][0])
            for one, other in zip(grads, values[0][1], strict=True):
                close(one, other)


@pytest.mark.parametrize(("form", "denominator"), VARIANTS)
def test_gradcheck_with_an_anchor_alone_and_one_without_negatives(form, denominator):
    P = torch.tensor([[0, 1, 2.0], [0, 0, 0], [1, 0, 1]])
    N = torch.tensor([[1, 0, 0.0], [1, 2, 0], [0, 0, 0]])
    relation = make.weights(P, N, diagonal=True)

    def loss(z, r):
        return info_nce(z, relation, r, temperature=0.5, form=form, denominator=denominator)

    assert torch.autograd.gradcheck(loss, (rows(3, 2).requires_grad_(), rows(3, 2, seed=1).requires_grad_()))
    _, (grad, _) = gradients(loss, rows(3, 2), rows(3, 2, seed=1))
    assert (grad[1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "relation",
    [
        make.labels(torch.tensor([-1, -1, -1])),
        make.listed(torch.full((3, 2), -1), size=3),
        make.negatives(3, 3),
        make.views(torch.arange(3), 1),
    ],
)
def test_without_any_kin_the_loss_is_zero_with_a_gradient_of_zero(relation, dtype):
    for form, denominator in VARIANTS:
        for reduction in ("mean", "valid", "sum"):
            value, (grad,) = gradients(
                lambda z, f=form, d=denominator, k=reduction: info_nce(z, relation, form=f, denominator=d, reduction=k),
                rows(3, 4, dtype=dtype),
            )
            assert value == 0
            assert (grad == 0).all()


@pytest.mark.parametrize(("form", "denominator"), VARIANTS)
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_chunks_give_the_same(form, denominator, chunk):
    kin = [make.labels(torch.tensor([0, 1, 0, 2, 1, 0, -1])), make.negatives(7, 4)]
    z, queue = rows(7, 3), rows(4, 3, seed=1)

    def loss(a, b, size):
        return info_nce(a, kin, [a, b], form=form, denominator=denominator, chunk=size)

    full, some = (gradients(lambda a, b, s=size: loss(a, b, s), z, queue) for size in (None, chunk))
    close(full[0], some[0])
    for one, other in zip(full[1], some[1], strict=True):
        close(one, other)


def test_sets_of_references_count_as_one():
    z, r, s = rows(4, 3), rows(6, 3, seed=1), rows(5, 3, seed=2)
    one, two = random_relation(1), random_relation(5, 4, 5)
    parts = [torch.cat(p, dim=1) for p in zip(one.dense(), two.dense(), strict=True)]
    joined = make.weights(*parts, diagonal=True)
    for form, denominator in VARIANTS:
        apart = info_nce(z, [one, two], [r, s], form=form, denominator=denominator)
        close(apart, info_nce(z, joined, torch.cat([r, s]), form=form, denominator=denominator))


def test_references_of_each_anchors_own():
    z, own = rows(4, 3), rows(4, 6, 3, seed=1)
    for relation in (random_relation(3), Relation(as_listed(random_relation(3).positive), as_listed(random_relation(3).negative), (4, 6))):
        got = info_nce(z, relation, own, reduction="none", temperature=0.4)
        for i in range(4):
            close(got[i : i + 1], info_nce(z[i : i + 1], relation.rows(slice(i, i + 1)), own[i], reduction="none", temperature=0.4))


def test_block_sum_passes_gradcheck_also_where_all_is_left_out():
    left = torch.tensor([[0, 1, 2], [1, 1, 1], [2, 0, 2]])
    z, r = rows(3, 2).requires_grad_(), rows(3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: block_logsumexp(a, b, left)[1:], (z, r))
    assert torch.autograd.gradcheck(lambda a, b: block_logsumexp(a, b), (z, r))
    _, grads = gradients(lambda a, b: block_logsumexp(a, b, left)[0], z, r)
    assert all((grad == 0).all() for grad in grads)


def test_weighed_block_sum_against_a_loop_and_gradcheck_also_where_nothing_weighs():
    z, r = rows(3, 2).requires_grad_(), rows(4, 2, seed=1).requires_grad_()
    weights = torch.tensor([[1.0, 0, 2, 1], [0, 0, 0, 0], [0, 3, 0, 0.5]], dtype=torch.float64)
    found = block_logsumexp(z, r, weights=weights)
    expected = [math.log(sum(float(weights[i, j]) * math.exp(float(z[i].detach() @ r[j].detach())) for j in range(4))) for i in (0, 2)]
    assert found[[0, 2]].tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda a, b: block_logsumexp(a, b, weights=weights)[[0, 2]], (z, r))
    _, grads = gradients(lambda a, b: block_logsumexp(a, b, weights=weights)[1], z, r)
    assert all((grad == 0).all() for grad in grads)


def test_a_reference_without_weight_may_be_infinitely_similar():
    z, r = torch.ones(1, 2), torch.tensor([[1.0, 1.0], [1e38, 1e38], [0.5, 0.5]])
    assert float(block_logsumexp(z, r, weights=torch.tensor([[1.0, 0.0, 2.0]]))) == pytest.approx(math.log(math.exp(2) + 2 * math.exp(1)))


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_sup_con_of_classes_equals_loops(copies):
    y = torch.tensor([0, 1, 0, 2, 1])
    z = rows(5 * copies, 4)
    kin = make.across_views(make.labels(y), copies)
    assert sup_con(z, kin, temperature=0.2).item() == pytest.approx(ref.sup_con(z.numpy(), y.repeat(copies).tolist(), 0.2), abs=1e-12)
    # only the first view's rows are anchors: the paper's contrast_mode="one"
    one = sup_con(z[:5], kin.rows(slice(0, 5)), z, temperature=0.2)
    assert one.item() == pytest.approx(ref.sup_con(z.numpy(), y.repeat(copies).tolist(), 0.2, range(5)), abs=1e-12)
    close(sup_con(z, kin), sup_con(z, make.labels(y.repeat(copies))))
    close(sup_con(z, kin, temperature=0.2, base_temperature=0.07), sup_con(z, kin, temperature=0.2) * 0.2 / 0.07)


def test_sup_con_of_views_is_simclr():
    z, ids = rows(12, 4), torch.arange(6)
    expected = nt_xent(z, make.views(ids, 2), temperature=0.3)
    eye = make.across_views(make.weights(torch.eye(6, dtype=torch.bool), diagonal=True), 2)
    for kin in (make.views(ids, 2), make.labels(ids.repeat(2)), eye):
        close(sup_con(z, kin, temperature=0.3), expected)


def test_an_asymmetric_relation_is_read_by_rows():
    mask = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 1, 0]]).bool()
    z = rows(3, 4)
    N = 1 - mask.double().numpy() - np.eye(3)
    expected = np.mean(ref.info_nce(z.numpy(), z.numpy(), mask.double().numpy(), N, 0.1))
    assert sup_con(z, make.weights(mask)).item() == pytest.approx(expected, abs=1e-11)


def test_relations_of_moco_equal_the_named_entry():
    q, k, queue = rows(4, 5), rows(4, 5, seed=1), rows(7, 5, seed=2)
    parts = [make.pairs(4), make.negatives(4, 7)]
    close(info_nce(q, parts, [k, queue], temperature=0.2), key_info_nce(q, k, queue, 0.2))


def test_meow_leaves_the_positive_out_of_the_denominator():
    a, b = rows(4, 3), rows(4, 3, seed=1)
    relation = make.clusterings([torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 2])])
    w = relation.dense()[1].double()
    s = torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T / 0.4
    expected = ((w * s.exp()).sum(1).log() - s.diagonal()).mean()
    close(info_nce(a, relation, b, temperature=0.4, denominator="negatives"), expected)


def test_autocast_and_half_inputs_compute_in_float32():
    z, relation = rows(6, 8, dtype=torch.float32), make.labels(torch.tensor([0, 1, 0, 1, 2, 2]))
    plain = info_nce(z, relation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(info_nce(z, relation, chunk=2), plain, 1e-6)
    assert info_nce(z.bfloat16(), relation).dtype == torch.float32


def test_large_logits_and_equal_rows_stay_finite():
    z = torch.ones(4, 3)
    for form, denominator in VARIANTS:
        value, (grad,) = gradients(
            lambda a, f=form, d=denominator: info_nce(a, make.labels(torch.tensor([0, 0, 1, 1])), temperature=1e-3, form=f, denominator=d),
            z,
        )
        assert torch.isfinite(value)
        assert torch.isfinite(grad).all()


def test_reductions():
    z, relation = rows(4, 3), make.labels(torch.tensor([0, 0, 1, -1]))
    each = info_nce(z, relation, reduction="none")
    assert (each[2:] == 0).all()
    for reduction, expected in (("mean", each.mean()), ("valid", each[:2].mean()), ("sum", each.sum())):
        close(info_nce(z, relation, reduction=reduction), expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"base_temperature": -1.0}, "base_temperature"),
        ({"form": "outer"}, "form"),
        ({"denominator": "every"}, "denominator"),
        ({"reduction": "average"}, "reduction"),
        ({"chunk": 0}, "chunk"),
        ({"refs": torch.zeros(3, 2)}, "references"),
        ({"refs": [torch.zeros(4, 2), torch.zeros(4, 2)]}, "one tensor for each"),
        ({"z": torch.zeros(5, 2)}, "anchors"),
        ({"z": torch.zeros(4, 2, 2)}, "embeddings"),
    ],
)
def test_mistakes_are_named(arguments, words):
    settings = {"z": torch.ones(4, 2), "relation": make.labels(torch.zeros(4, dtype=torch.int64)), **arguments}
    with pytest.raises(ConfigError, match=words):
        info_nce(**settings)
