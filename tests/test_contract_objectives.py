"""What every registered objective must do, generated from the registry: a new one is tested without an edit here."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from kinshot.cli.parts import described
from kinshot.core.config import dataclass_parameters
from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.parts import Listed, Mask
from kinshot.kin.relation import Relation
from kinshot.learn.place import Place
from kinshot.objectives import OBJECTIVES, taking
from kinshot.objectives.common import unit
from kinshot.objectives.module import ObjectiveModule
from tests.objective_cases import BATCH, Case, Y, cases, warm

KINDS = ("relation", "proxies", "classes", "views", "teacher")
SEES_ORDER = {"correlation_congruence", "hier"}
# They push strangers apart also where an anchor has no kin. An objective that is not named here costs nothing without kin.
REPEL = {
    "block_repulsion",
    "contextual",
    "class_uniformity",
    "contra_x",
    "gaussian_mixture",
    "hier",
    "margin",
    "margin_contrastive",
    "proto_nce",
    "uniformity",
}
# Their units are the batch's classes. An objective that is not named here takes references.
OF_THE_BATCH = {"block_repulsion", "class_uniformity", "contextual", "gaussian_mixture", "hier", "modality_triplet", "proto_nce"}
# An anchor is its own kin.
KIN_OF_ITSELF = {"contra_x"}
# Modes that compare modalities alone, of which the batch has one.
ACROSS = {"hybrid", "across"}
ANY_NUMBER = {"multi_similarity": {"threshold", "negative_threshold", "mining_margin"}}

every_objective = pytest.mark.parametrize("name", OBJECTIVES.names())
every_case = pytest.mark.parametrize("case", cases(*KINDS))
of_relations = pytest.mark.parametrize("case", cases("relation"))
of_anchors = pytest.mark.parametrize("case", [c for c in cases("relation", "classes") if c.values[0].has("reduction")])


def gradients(loss, *tensors: Tensor, **given) -> tuple[Tensor, list[Tensor]]:
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    value = loss(*leaves, **given)
    value.backward()
    return value.detach(), [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]


def close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@every_objective
def test_documentation(name: str) -> None:
    entry = OBJECTIVES.entry(name)
    assert "Paper:" in entry.docstring
    assert entry.summary.endswith(".")
    assert not [p.name for p in entry.parameters.values() if not p.help]


@every_objective
def test_name_file_and_function_agree_and_it_takes_what_it_says(name: str) -> None:
    entry, part = OBJECTIVES.entry(name), OBJECTIVES.get(name)
    assert entry.module.rpartition(".")[2] == name
    assert entry.symbol.lower().replace("_", "") == name.replace("_", "")
    assert name in taking(entry.facts["takes"])
    expected = {"relation": "z relation refs", "classes": "* y", "views": "first second ids", "teacher": "student teacher"}
    wired = [p.name for p in inspect.signature(part).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    takes = str(entry.facts["takes"])
    if isinstance(part, type):
        expected |= {"relation": "dim classes", "proxies": "dim classes"}
    wanted = [*expected[takes].split(), *(["context"] if isinstance(part, type) else [])]
    assert len(wired) == len(wanted)
    assert all(want in ("*", have) for want, have in zip(wanted, wired, strict=True))


@every_objective
def test_no_setting_is_called_like_what_a_term_says_itself(name: str) -> None:
    own = {"objective", "kin", "miner", "augmenter", *dataclass_parameters(Place)}
    assert not own & set(OBJECTIVES.entry(name).parameters)


@every_objective
def test_list_and_show_say_what_it_takes(name: str) -> None:
    takes = OBJECTIVES.entry(name).facts["takes"]
    shown = next(one for one in described(name) if one.kind == "objective")
    assert shown.as_dict()["takes"] == takes
    assert f"\ntakes: {takes}\n" in shown.as_text()


@every_objective
def test_every_module_says_its_share_of_the_learning_rate(name: str) -> None:
    part = OBJECTIVES.get(name)
    if isinstance(part, type):
        assert issubclass(part, ObjectiveModule)
        assert part.lr_scale > 0


@every_case
def test_value_and_gradient_are_finite(case: Case) -> None:
    value, grads = gradients(warm(case)[0], *case.outputs(), step=2)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert (grads[0].abs().max() > 1e-7) == (case.settings.get("mode") not in ACROSS)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    loss, _ = warm(case)
    tensors = [x.to(dtype) for x in case.outputs()]
    value = loss(*tensors, step=2)
    assert value.dtype == torch.float32
    assert value == loss(*(x.float() for x in tensors), step=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert value == loss(*tensors, step=2)


@every_case
def test_duplicates_zeros_and_equal_rows_leave_finite_gradients(case: Case) -> None:
    (loss, _), tensors = warm(case), case.outputs()
    twice = torch.tensor([0, 1, 2, 0, 1, 2])
    for change in (lambda x: x[twice], torch.zeros_like, torch.ones_like):
        for which in range(len(tensors) + 1):  # one tensor after the other, then all
            given = [change(x) if which in (i, len(tensors)) else x for i, x in enumerate(tensors)]
            value, grads = gradients(loss, *given, step=2)
            assert torch.isfinite(value)
            assert all(torch.isfinite(grad).all() for grad in grads)


@every_case
def test_the_order_of_the_batch_does_not_matter(case: Case) -> None:
    (loss, _), tensors = warm(case), case.outputs()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    value, (grad, *_) = gradients(loss, *tensors, step=2)
    moved, (moved_grad, *_) = gradients(loss, *(x[order] for x in tensors), y=Y[order], step=2)
    same = torch.isclose(value, moved, rtol=1e-4, atol=1e-6)
    assert bool(same) == (case.name not in SEES_ORDER)
    if same:
        close(grad[order], moved_grad, 1e-4)


@every_objective
def test_numbers_out_of_range_are_refused(name: str) -> None:
    first: Case = next(c.values[0] for c in cases(*KINDS) if c.values[0].name == name)
    for key, parameter in OBJECTIVES.entry(name).parameters.items():
        if {"int", "float"} & set(parameter.annotation.split(" | ")) and key not in ANY_NUMBER.get(name, ()):
            case = Case(name, {key: -1}, first.shapes)
            with pytest.raises(ConfigError, match=key):
                case.loss(case.build())(*case.outputs())


@every_case
def test_batches_that_do_not_fit_are_refused(case: Case) -> None:
    loss = case.loss(case.build())
    tensors = case.outputs()
    wrong = [(tensors[0][0], *tensors[1:])]  # a sample, no batch
    wrong += [(tensors[0][:-1], *tensors[1:])]  # one row less than the rest has, labels included
    for given in wrong:
        with pytest.raises(ConfigError):
            loss(*given)


@pytest.mark.parametrize("case", cases("relation", "proxies", "classes"))
def test_rows_of_which_nothing_is_known_cost_nothing(case: Case) -> None:
    value, (grad,) = gradients(case.loss(case.build()), *case.outputs(), y=torch.full((BATCH,), -1))
    if case.name not in KIN_OF_ITSELF:
        assert value == 0
    assert value.abs() < 1e-6
    assert grad.abs().max() < 1e-6


@of_relations
def test_anchors_without_kin_cost_nothing_and_stay_differentiable(case: Case) -> None:
    y = torch.arange(BATCH)
    value, (grad,) = gradients(case.loss(case.build()), *case.outputs(), y=y)
    assert torch.isfinite(grad).all()
    assert (value == 0) == (case.name not in REPEL)


@of_relations
def test_a_relation_without_pairs_and_no_reference_at_all(case: Case) -> None:
    part = case.part()
    empty = [] if case.name in OF_THE_BATCH else [(make.negatives(3, 0), torch.zeros(0, 4))]
    for relation, refs in ((Relation(None, None, (3, 3)), None), *empty):
        value, (grad,) = gradients(lambda z, k=relation, r=refs: part(z, k, r), torch.randn(3, 4))
        assert value.abs() < 1e-6
        assert grad.abs().max() < 1e-6


@of_relations
def test_a_pair_of_weight_0_is_absent(case: Case) -> None:
    """As a matrix with zeros, as lists of all columns with weights 0, and as lists that leave these columns out."""
    (z,), part = case.outputs(), case.part()
    positive, negative = (side.float() * 1.5 for side in make.labels(Y).dense())
    columns = torch.arange(BATCH).repeat(BATCH, 1)
    listed = [Listed(columns, side) for side in (positive, negative)]
    left = [Listed(columns.masked_fill(side == 0, -1), side) for side in (positive, negative)]
    mask = gradients(lambda x: part(x, Relation(Mask(positive), Mask(negative), (BATCH, BATCH))), z)
    for sides in (listed, left):
        found = gradients(lambda x, s=sides: part(x, Relation(*s, shape=(BATCH, BATCH))), z)
        close(found[0], mask[0])
        close(found[1][0], mask[1][0])


@of_relations
def test_references_are_told_apart_from_anchors(case: Case) -> None:
    part, kin = case.part(), make.labels(Y)
    z = unit(case.outputs()[0])  # which "anchors" takes as they are
    if case.name in OF_THE_BATCH:
        with pytest.raises(ConfigError, match=f"{case.name}.*references"):
            part(z, kin, z)
        return
    own, (grad,) = gradients(lambda x: part(x, kin), z)
    given, (to_z, to_refs) = gradients(lambda x, r: part(x, kin, r), z, z)
    if case.name not in KIN_OF_ITSELF:
        close(own, given)
        if case.settings.get("normalize") != "anchors":
            close(grad, to_z + to_refs)
    some = make.labels(Y, Y[:4])
    assert torch.isfinite(part(z, some, z[:4] + 1))
    with pytest.raises(ConfigError):
        part(z, some, z)


@of_relations
def test_sets_of_references_count_as_one(case: Case) -> None:
    if "Sequence" not in str(inspect.signature(OBJECTIVES.get(case.name)).parameters.get("relation")):
        pytest.skip("takes one relation")
    part = case.part()
    (z,), refs = case.outputs(), torch.randn(5, 4, generator=torch.Generator().manual_seed(9))
    y_refs = torch.tensor([2, 0, 1, -1, 0])
    whole = part(z, make.labels(Y, y_refs), refs)
    parts = [make.labels(Y, y_refs[:2]), make.labels(Y, y_refs[2:])]
    close(part(z, parts, [refs[:2], refs[2:]]), whole)


@pytest.mark.parametrize("case", [c for c in cases("relation") if c.values[0].has("chunk")])
@pytest.mark.parametrize("chunk", [1, 4, 99])
def test_chunks_give_the_same_value_and_gradient(case: Case, chunk: int) -> None:
    (value, grads), (again, chunked) = (gradients(case.loss(**given), *case.outputs()) for given in ({}, {"chunk": chunk}))
    close(value, again)
    close(grads[0], chunked[0])


@of_anchors
def test_losses_of_anchors_and_what_each_counts_add_up_to_the_loss(case: Case) -> None:
    (z,) = case.outputs()
    losses, weight = case.loss(reduction="each")(z)
    assert losses.shape == weight.shape == (BATCH,)
    assert torch.equal(losses, case.loss(reduction="none")(z))
    assert (weight >= 0).all()
    assert torch.equal(losses[weight == 0], torch.zeros(int((weight == 0).sum())))
    total = (losses * weight).sum()
    close(total, case.loss(reduction="sum")(z))
    # a mean over rows is one over valid rows or over all; a mean over pairs is one over all pairs
    means = [total / weight.sum().clamp(min=1e-9), total / BATCH]
    found = case.loss(reduction="mean")(z)
    assert any(torch.isclose(found, mean, rtol=1e-5, atol=1e-6) for mean in means)
    valid = case.loss(reduction="valid")(z)
    assert torch.isclose(valid, means[0], rtol=1e-5, atol=1e-6) or valid >= found
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    close(losses[order], case.loss(reduction="none")(z[order], y=Y[order]))


@of_anchors
def test_an_anchor_of_which_nothing_is_known_counts_nothing(case: Case) -> None:
    (z,) = case.outputs()
    weight = case.loss(reduction="each")(z)[1]
    assert weight[Y < 0].sum() == 0
    assert (weight[Y >= 0] > 0).any()


@pytest.mark.parametrize("reduction", ["average", "None"])
@of_anchors
def test_an_unknown_reduction_is_refused(case: Case, reduction: str) -> None:
    with pytest.raises(ConfigError, match="reduction"):
        case.loss(reduction=reduction)(*case.outputs())
