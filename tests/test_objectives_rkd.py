"""Relational distillation: against loops in float64, what it must not see, tiles and triplets against the whole, and its memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.distillation import angle_sweep
from kinshot.objectives.distillation.rkd_angle import RKDAngle, angle_relation, draw_triples, rkd_angle
from kinshot.objectives.distillation.rkd_distance import distance_relation, rkd_distance

REDUCTIONS = ("reference", "valid")
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
every_loss = pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])
few = settings(max_examples=15, deadline=None)


def rows(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def huber(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def slow_distances(z):
    """psi_D by its definition, pair by pair."""
    count = len(z)
    found = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            if i != j:
                found[i, j] = math.sqrt(max(sum((p - q) ** 2 for p, q in zip(z[i], z[j], strict=True)), 1e-12))
    return found / np.mean([value for value in found.ravel() if value > 0])


def slow_direction(a, b):
    difference = [q - p for p, q in zip(a, b, strict=True)]
    length = max(math.sqrt(sum(v * v for v in difference)), 1e-12)
    return [v / length for v in difference]


def slow_angles(z):
    """psi_A by its definition, triple by triple."""
    count = len(z)
    found = np.zeros((count, count, count))
    for a in range(count):
        unit = [slow_direction(z[a], z[b]) for b in range(count)]
        for b in range(count):
            for c in range(count):
                found[a, b, c] = sum(p * q for p, q in zip(unit[b], unit[c], strict=True))
    return found


def slow_loss(relation, student, teacher, reduction):
    one, two = relation(student.tolist()), relation(teacher.tolist())
    places = list(np.ndindex(one.shape))
    if reduction == "valid":
        places = [place for place in places if len(set(place)) == one.ndim]
    return sum(huber(one[place] - two[place]) for place in places) / len(places)


def plain_angle(student, teacher):
    """As most people write it, for the gradient; all triples."""
    one, two = (F.normalize(z[None] - z[:, None], dim=2) for z in (student, teacher))
    return F.huber_loss(one @ one.transpose(1, 2), two @ two.transpose(1, 2))


def with_gradient(loss, student, *args, **settings):
    student = student.clone().requires_grad_()
    value = loss(student, *args, **settings)
    return value.detach(), torch.autograd.grad(value, student)[0]


def rotation(dim, seed):
    return torch.linalg.qr(rows(dim, dim, seed=seed)).Q


@pytest.fixture
def small_tiles(monkeypatch):
    """Several tiles in a batch of a few samples: of two legs with two."""
    monkeypatch.setattr(angle_sweep, "CACHED", 20)


@every_reduction
@pytest.mark.parametrize(("count", "width", "other"), [(2, 3, 3), (3, 2, 5), (7, 4, 3)])
def test_values_are_those_of_the_formulas(count, width, other, reduction):
    student, teacher = rows(count, width), 3 * rows(count, other, seed=1)
    assert rkd_distance(student, teacher, reduction=reduction).item() == pytest.approx(
        slow_loss(slow_distances, student, teacher, reduction), abs=1e-12
    )
    if (count, reduction) != (2, "valid"):
        expected = slow_loss(slow_angles, student, teacher, reduction)
        assert rkd_angle(student, teacher, reduction=reduction).item() == pytest.approx(expected, abs=1e-12)


def test_relations_are_those_of_the_formulas():
    z = rows(6, 4)
    np.testing.assert_allclose(distance_relation(z).numpy(), slow_distances(z.tolist()), rtol=1e-12)
    np.testing.assert_allclose(angle_relation(z).numpy(), slow_angles(z.tolist()), atol=1e-12)
    assert torch.autograd.gradcheck(angle_relation, rows(4, 3).requires_grad_())


@every_reduction
def test_coinciding_samples_cost_what_the_formulas_say(reduction):
    student, teacher = rows(5, 3), rows(5, 3, seed=1)
    student[3] = student[1]
    teacher[4] = teacher[0]
    for loss, relation in ((rkd_distance, slow_distances), (rkd_angle, slow_angles)):
        value, gradient = with_gradient(loss, student, teacher, reduction=reduction)
        assert value.item() == pytest.approx(slow_loss(relation, student, teacher, reduction), abs=1e-12)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < 10


@every_reduction
def test_gradients_are_those_of_finite_differences(reduction, small_tiles):
    student, teacher = rows(5, 3).requires_grad_(), rows(5, 2, seed=1)
    triples = draw_triples(20, 5, torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda z: rkd_distance(z, teacher, reduction=reduction), student)
    assert torch.autograd.gradcheck(lambda z: rkd_angle(z, teacher, reduction=reduction), student)
    assert torch.autograd.gradcheck(lambda z: rkd_angle(z, teacher, reduction=reduction, chunk=2), student)
    assert torch.autograd.gradcheck(lambda z: rkd_angle(z, teacher, reduction=reduction, triples=triples), student)


def test_gradients_of_costs_beyond_the_bend(small_tiles):
    # three samples in a line, their middle one elsewhere: cosines of 1 where the teacher has -1
    student, teacher = torch.tensor([[0.0], [1], [2], [3.5]]).double(), torch.tensor([[0.0], [3], [1], [2]]).double()
    student, teacher = torch.cat([student, rows(4, 1) / 5], 1), torch.cat([teacher, rows(4, 1, seed=1) / 5], 1)
    found, expected = with_gradient(rkd_angle, student, teacher), with_gradient(plain_angle, student, teacher)
    assert (angle_relation(student) - angle_relation(teacher)).abs().max() > 1
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)


@every_loss
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100), shift=st.floats(-100, 100), side=st.booleans())
@few
def test_scale_shift_and_rotation_change_nothing(loss, seed, scale, shift, side):
    student, teacher = rows(6, 4, seed=seed), rows(6, 3, seed=seed + 1)
    expected = loss(student, teacher)
    moved = scale * (teacher if side else student) + shift
    moved = moved @ rotation(moved.shape[1], seed)
    found = loss(student, moved) if side else loss(moved, teacher)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@every_loss
def test_a_large_offset_costs_no_more_than_the_digits_it_takes_from_the_input(loss):
    student, teacher = rows(24, 8).float() + 1000, rows(24, 6, seed=1).float() - 500
    found, exact = with_gradient(loss, student, teacher), with_gradient(loss, student.double(), teacher.double())
    for one, two in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), two, rtol=2e-5, atol=1e-8)


@every_loss
@every_reduction
def test_two_samples_have_nothing_to_tell(loss, reduction):
    value, gradient = with_gradient(loss, rows(2, 4).float(), rows(2, 3, seed=1).float(), reduction=reduction)
    assert value == 0
    assert gradient.abs().max() < 1e-6


@every_loss
@pytest.mark.parametrize("count", [5, 80])
def test_a_student_like_its_teacher_costs_nothing(loss, count):
    z = rows(count, 4).float()
    z[2] = z[0]
    value, gradient = with_gradient(loss, z, z)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(z))


@every_loss
def test_samples_that_all_coincide_give_finite_gradients(loss):
    value, gradient = with_gradient(loss, torch.ones(4, 3), rows(4, 3).float())
    assert torch.isfinite(value)
    assert torch.equal(gradient, torch.zeros(4, 3))


@every_reduction
def test_tiles_give_the_whole(reduction):
    student, teacher = rows(70, 5).float(), rows(70, 3, seed=1).float()
    whole = with_gradient(rkd_angle, student, teacher, reduction=reduction, chunk=70)
    for chunk in (None, 1, 9, 69, 500):
        for one, two in zip(with_gradient(rkd_angle, student, teacher, reduction=reduction, chunk=chunk), whole, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)
    if reduction == "reference":
        for one, two in zip(whole, with_gradient(plain_angle, student.double(), teacher.double()), strict=True):
            torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("count", "most"), [(2, 1), (64, 11), (7, 3), (5, 9)])
def test_tiles_hold_every_pair_of_legs_once(count, most):
    ends = list(angle_sweep.pieces(count, most))
    nothing = torch.zeros(0)
    seen = np.zeros((count, count), dtype=int)
    for rows, columns in angle_sweep.tiles([angle_sweep.Legs(leg, (nothing,) * 2, (nothing,) * 2, nothing, None) for leg in ends]):
        seen[rows.ends, columns.ends] += 1
        if rows is not columns:
            seen[columns.ends, rows.ends] += 1
    assert (seen == 1).all()
    assert max(leg.stop - leg.start for leg in ends) <= most


def test_single_precision_loses_no_more_than_the_rounding_of_embeddings():
    # tight clusters far from one another, as trained embeddings have: products of embeddings would lose their inner angles
    teacher = rows(72, 8, seed=1).float()
    lost = []
    for seed in range(3, 8):
        spread = torch.from_numpy(np.random.default_rng(seed).normal(size=(8, 9, 16)))
        student = (rows(8, 1, 16) * 30 + 0.05 * spread).flatten(0, 1)
        exact = with_gradient(plain_angle, student, teacher.double())
        rounded = with_gradient(plain_angle, student.float().double(), teacher.double())
        found = with_gradient(rkd_angle, student.float(), teacher)
        lost.append(float(abs(found[0] - exact[0]) / exact[0]))
        assert (found[1] - rounded[1]).norm() < 4 * (rounded[1] - exact[1]).norm() < 1e-3 * exact[1].norm()
    assert np.mean(lost) < 1e-6  # how single cosines happen to round differs by processor, their mean does not
    assert max(lost) < 3e-6


@every_reduction
def test_all_triples_given_one_by_one_are_the_whole(reduction):
    student, teacher = rows(6, 3), rows(6, 4, seed=1)
    student[4] = student[2]
    triples = torch.tensor(list(np.ndindex(6, 6, 6)))
    found = with_gradient(rkd_angle, student, teacher, reduction=reduction, triples=triples)
    for one, two in zip(found, with_gradient(rkd_angle, student, teacher, reduction=reduction), strict=True):
        torch.testing.assert_close(one, two)


@every_reduction
def test_drawn_triples_are_without_bias(reduction):
    student, teacher = rows(8, 3), rows(8, 4, seed=1)
    exact = with_gradient(rkd_angle, student, teacher, reduction=reduction)
    draws = [draw_triples(64, 8, torch.Generator().manual_seed(seed)) for seed in range(400)]
    found = [with_gradient(rkd_angle, student, teacher, reduction=reduction, triples=triples) for triples in draws]
    for one, two in zip(zip(*found, strict=True), exact, strict=True):
        values = torch.stack(one)
        error = values.std(0) / math.sqrt(len(values))
        assert ((values.mean(0) - two).abs() < 4 * error).all()
        assert (error < 0.2 * two.abs().max()).all()


def test_the_registered_angle_draws_anew_in_every_step():
    context = RunContext(num_samples=100, batch_size=16, steps_per_epoch=6, total_steps=60, seed=3)
    student, teacher, indices = rows(16, 4), rows(16, 3, seed=1), torch.arange(16)
    drawn = OBJECTIVES.build("rkd_angle", (4,), (3,), context, settings={"triplets": 50})
    values = [drawn(student, teacher, indices, step).item() for step in (0, 1, 0)]
    assert values[0] == values[2] != values[1]
    whole = OBJECTIVES.build("rkd_angle", (4,), (3,), context, settings={"reduction": "valid", "chunk": 5})
    torch.testing.assert_close(whole(student, teacher, indices, 0), rkd_angle(student, teacher, reduction="valid"))
    assert not drawn.state_dict()


def test_settings_are_what_a_recipe_may_set():
    assert list(OBJECTIVES.entry("rkd_distance").parameters) == ["reduction"]
    assert list(OBJECTIVES.entry("rkd_angle").parameters) == ["reduction", "chunk", "triplets"]
    found = OBJECTIVES.build("rkd_distance", rows(4, 3), rows(4, 2, seed=1), settings={"reduction": "valid"})
    torch.testing.assert_close(found, rkd_distance(rows(4, 3), rows(4, 2, seed=1)) * 4 / 3)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_single(loss, dtype):
    student, teacher = rows(6, 4).to(dtype), rows(6, 3, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = with_gradient(loss, student, teacher)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value, loss(student.float(), teacher.float()))


@every_loss
def test_the_teacher_takes_no_gradient_and_evaluation_needs_none(loss):
    student, teacher = rows(5, 4).requires_grad_(), rows(5, 3, seed=1).requires_grad_()
    assert torch.autograd.grad(loss(student, teacher), teacher, allow_unused=True) == (None,)
    with torch.no_grad():
        value = loss(student, teacher)
    assert not value.requires_grad
    torch.testing.assert_close(value, loss(student, teacher).detach())
    torch.testing.assert_close(
        with_gradient(lambda z: 3 * loss(z, teacher), student.detach())[1], 3 * torch.autograd.grad(loss(student, teacher), student)[0]
    )


@every_loss
@pytest.mark.parametrize(
    ("student", "teacher", "complaint"),
    [
        ((4, 3), (5, 3), "same B samples"),
        ((4,), (4, 3), "expected outputs"),
        ((1, 3), (1, 3), "at least 2"),
        ((4, 3), (4, 3, 2, 2), "pooling"),
    ],
)
def test_shapes_that_do_not_fit(loss, student, teacher, complaint):
    with pytest.raises(ConfigError, match=complaint):
        loss(torch.zeros(student), torch.zeros(teacher))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"chunk": 0}, "chunk"),
        ({"reduction": "mean"}, "reduction"),
        ({"triples": torch.zeros(0, 3, dtype=torch.int64)}, "triples"),
        ({"triples": torch.zeros(3, 2, dtype=torch.int64)}, "triples"),
        ({"triples": torch.zeros(3, 3)}, "triples"),
        ({"triples": torch.tensor([[0, 1, 4]])}, "rows 0 to 3"),
    ],
)
def test_settings_out_of_range(wrong, complaint):
    with pytest.raises(ConfigError, match=complaint):
        rkd_angle(rows(4, 3), rows(4, 3), **wrong)


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"triplets": 0}, {"reduction": "sum"}, {"student": (4, 2, 2)}])
def test_a_registered_angle_refuses_what_makes_no_sense(wrong):
    context = RunContext(num_samples=8, batch_size=4, steps_per_epoch=2, total_steps=2, seed=0)
    shapes = {"student": (4,), "teacher": (3,)} | {name: wrong[name] for name in wrong if name == "student"}
    with pytest.raises(ConfigError, match=next(iter(wrong)) if "student" not in wrong else "pool maps"):
        RKDAngle(**shapes, context=context, **{name: value for name, value in wrong.items() if name != "student"})


class Largest(TorchFunctionMode):
    """Remembers how many numbers the largest tensor holds that any call returns."""

    numbers = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return result


def test_no_tensor_grows_with_the_cube_of_the_batch(monkeypatch):
    monkeypatch.setattr(angle_sweep, "CACHED", 2**12)
    student, teacher = rows(90, 4).float(), rows(90, 3, seed=1).float()
    with Largest() as seen:
        with_gradient(rkd_angle, student, teacher)
    assert 90 * 90 <= seen.numbers <= max(3 * 2**12, 2 * 90 * 90)
    with Largest() as plain:
        with_gradient(plain_angle, student, teacher)
    assert plain.numbers >= 90**3


@every_reduction
@pytest.mark.parametrize("chunk", [None, 1, 33, 69])
def test_sums_of_many_terms_keep_their_digits_wherever_their_memory_begins(chunk, reduction):
    # 70 vertices in pieces of 35 begin at odd places, where a dot product of float32 loses five digits
    student, teacher = rows(70, 16), rows(70, 24, seed=1)
    exact = rkd_angle(student, teacher, reduction=reduction).item()
    assert rkd_angle(student.float(), teacher.float(), reduction=reduction, chunk=chunk).item() == pytest.approx(exact, rel=1e-6)
