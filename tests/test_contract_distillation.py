"""What every objective that takes a teacher must do beside what every objective does, generated from the registry."""

from __future__ import annotations

import pytest
import torch

from kinshot.core.errors import ConfigError
from tests.objective_cases import BATCH, Case, cases, warm

every_case = pytest.mark.parametrize("case", cases("teacher"))
# has no weights of one width
ANY_WIDTH = {"rkd_angle"}


@every_case
def test_the_student_gets_a_gradient_and_the_teacher_none(case: Case) -> None:
    loss, _ = warm(case)
    student, teacher = (x.requires_grad_() for x in case.outputs())
    value = loss(student, teacher, step=2)
    value.backward()
    assert student.grad is not None
    assert student.grad.abs().max() > 1e-7
    assert teacher.grad is None


@every_case
def test_the_first_step_is_finite(case: Case) -> None:
    student, teacher = case.outputs()
    student.requires_grad_()
    value = case.loss(case.build())(student, teacher)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@every_case
def test_one_side_may_be_of_other_precision(case: Case) -> None:
    loss, _ = warm(case)
    student, teacher = case.outputs()
    assert loss(student, teacher.half(), step=2) == loss(student, teacher.half().float(), step=2)


@every_case
def test_duplicates_on_one_side_zero_rows_and_equal_sides_leave_finite_gradients(case: Case) -> None:
    loss, _ = warm(case)
    student, teacher = case.outputs()
    twice = torch.tensor([0, 1, 2, 0, 1, 2])
    half_zero = torch.arange(BATCH).view(-1, *[1] * len(case.shapes[0])) % 2
    pairs = [
        (student[twice], teacher[twice]),
        (student[twice], teacher),
        (torch.zeros_like(student), teacher),
        (student, torch.zeros_like(teacher)),
        (torch.zeros_like(student), torch.zeros_like(teacher)),
        (torch.ones_like(student), torch.ones_like(teacher)),
        (student * half_zero, teacher),
    ]
    if case.shapes[0] == case.shapes[1]:
        pairs.append((teacher, teacher))
    for ours, theirs in pairs:
        ours = ours.clone().requires_grad_()
        value = loss(ours, theirs, step=2)
        value.backward()
        assert torch.isfinite(value)
        assert ours.grad is not None
        assert torch.isfinite(ours.grad).all()


@every_case
def test_batches_that_do_not_fit_are_refused(case: Case) -> None:
    module = case.build()
    loss = case.loss(module)
    student, teacher = case.outputs()
    for ours, theirs in ((student[:-1], teacher), (student, teacher[:-1]), (student[:0], teacher[:0]), (student[0], teacher[0])):
        with pytest.raises(ConfigError, match=case.name):
            loss(ours, theirs)
    if module is not None:
        for ours, theirs in ((student[:, :-1], teacher), (student, teacher[:, :-1])):
            if case.name not in ANY_WIDTH:
                with pytest.raises(ConfigError, match=case.name):
                    loss(ours, theirs)


@every_case
def test_state_moves_after_the_step_alone(case: Case) -> None:
    loss, module = warm(case)
    if module is None:
        assert torch.equal(loss(*case.outputs()), loss(*case.outputs()))
        return
    before = {key: value.clone() for key, value in module.state_dict().items()}
    first = loss(*case.outputs(), step=2)
    for seed in (7, 8):  # steps that diverge, for example
        loss(*case.outputs(seed=seed), step=2)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(loss(*case.outputs(), step=2), first)
    module.after_step()
    settled = {key: value.clone() for key, value in module.state_dict().items()}
    module.after_step()  # nothing is left to store
    assert all(torch.equal(value, settled[key]) for key, value in module.state_dict().items())


@every_case
def test_a_resumed_run_continues_bit_for_bit(case: Case) -> None:
    loss, module = warm(case)
    if module is None:
        return
    other = case.build()
    assert other is not None
    other.load_state_dict({key: value.clone() for key, value in module.state_dict().items()})
    resumed = case.loss(other)
    for step in range(2, 6):
        student, teacher = case.outputs(seed=step)
        student.requires_grad_()
        values = []
        for one, part in ((loss, module), (resumed, other)):
            values.append(one(student, teacher, step=step))
            part.zero_grad()
            values[-1].backward()
            with torch.no_grad():
                for parameter in part.parameters():
                    parameter -= 0.1 * (0 if parameter.grad is None else parameter.grad)
            part.after_step()
        assert torch.equal(*values)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in module.state_dict().items())
