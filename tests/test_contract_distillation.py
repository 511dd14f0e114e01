"""What every registered distillation loss must do, generated from the registry: a new loss is tested without an edit here."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.objectives import OBJECTIVES, taking

BATCH, SAMPLES = 6, 40
Shape = tuple[int, ...]
Loss = Callable[..., Tensor]

# What a loss may be given. A loss that is not named here must take embeddings of different widths.
DIFFERENT: tuple[Shape, Shape] = ((4,), (5,))
EQUAL: tuple[Shape, Shape] = ((4,), (4,))
MAPS: tuple[Shape, Shape] = ((2, 4, 4), (3, 3, 5))
SHAPES = {"kd": [EQUAL], "seed": [EQUAL], "coss": [EQUAL], "attention_transfer": [MAPS], "compress:variant=1q": [EQUAL]}
ALSO = {"fitnet": [EQUAL, MAPS], "similarity_preserving": [EQUAL, MAPS]}
SEES_ORDER = {"correlation_congruence"}


def _choices(annotation: str) -> tuple[Any, ...]:
    if annotation == "bool":
        return (False, True)
    if annotation.startswith("Literal["):
        return ast.literal_eval("(" + annotation[8:-1] + ",)")
    return ()


def _cases() -> list[Any]:
    """Each loss with its defaults, then with every other choice of every setting that lists its choices, for every kind of output."""
    cases = []
    for name in taking("teacher"):
        settings: list[tuple[str, dict[str, Any]]] = [(name, {})]
        for key, parameter in OBJECTIVES.entry(name).parameters.items():
            others = [choice for choice in _choices(parameter.annotation) if choice != parameter.default]
            settings += [(f"{name}:{key}={choice}", {key: choice}) for choice in others]
        for label, chosen in settings:
            for shapes in [*SHAPES.get(label, SHAPES.get(name, [DIFFERENT])), *ALSO.get(name, [])]:
                cases.append(pytest.param(name, chosen, shapes, id=f"{label}-{'x'.join(map(str, shapes[0]))}"))
    return cases


every_case = pytest.mark.parametrize(("name", "settings", "shapes"), _cases())
every_loss = pytest.mark.parametrize("name", taking("teacher"))


def _build(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> nn.Module | None:
    """The loss, where it is a class."""
    if not isinstance(OBJECTIVES.get(name), type):
        return None
    context = RunContext(num_samples=SAMPLES, batch_size=BATCH, steps_per_epoch=5, total_steps=10, seed=3)
    with keyed_initialisation(1, name):
        return OBJECTIVES.build(name, *shapes, context, settings=settings)


def _loss(name: str, settings: dict[str, Any], module: nn.Module | None) -> Loss:
    """(student, teacher, step) -> loss, where the samples of step k are k * BATCH and those after it."""
    if module is None:
        return lambda student, teacher, step=0: OBJECTIVES.build(name, student, teacher, settings=settings)
    return lambda student, teacher, step=0: module(student, teacher, torch.arange(len(student)) + BATCH * step, step)


def _after_step(module: nn.Module | None) -> None:
    if module is not None and hasattr(module, "after_step"):
        module.after_step()  # type: ignore[operator]


def _outputs(shapes: tuple[Shape, Shape], seed: int = 0, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(batch, *shape, generator=generator) for shape in shapes)
    return student, teacher


def _warm(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> tuple[Loss, nn.Module | None]:
    """The loss after two steps, so that a queue holds something and what the first negatives fix is fixed."""
    module = _build(name, settings, shapes)
    loss = _loss(name, settings, module)
    for step in range(2):
        loss(*_outputs(shapes, seed=100 + step), step)
        _after_step(module)
    return loss, module


@every_loss
def test_documentation(name: str) -> None:
    entry = OBJECTIVES.entry(name)
    assert "Paper:" in entry.docstring
    assert entry.summary.endswith(".")
    assert not [p.name for p in entry.parameters.values() if not p.help]


@every_case
def test_value_and_gradient_are_finite_and_the_teacher_gets_none(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> None:
    loss, _ = _warm(name, settings, shapes)
    student, teacher = (x.requires_grad_() for x in _outputs(shapes))
    value = loss(student, teacher, 2)
    value.backward()
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().max() > 1e-7
    assert teacher.grad is None


@every_case
def test_the_first_step_is_finite(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> None:
    student, teacher = _outputs(shapes)
    student.requires_grad_()
    value = _loss(name, settings, _build(name, settings, shapes))(student, teacher)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(
    name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape], dtype: torch.dtype
) -> None:
    loss, _ = _warm(name, settings, shapes)
    student, teacher = (x.to(dtype) for x in _outputs(shapes))
    value = loss(student, teacher, 2)
    assert value.dtype == torch.float32
    assert value == loss(student.float(), teacher.float(), 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert value == loss(student, teacher, 2)


@every_case
def test_one_side_may_be_of_other_precision(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> None:
    loss, _ = _warm(name, settings, shapes)
    student, teacher = _outputs(shapes)
    assert loss(student, teacher.half(), 2) == loss(student, teacher.half().float(), 2)


@every_case
def test_duplicates_zeros_and_equal_sides_leave_finite_gradients(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> None:
    loss, _ = _warm(name, settings, shapes)
    student, teacher = _outputs(shapes)
    twice = torch.tensor([0, 1, 2, 0, 1, 2])
    half_zero = torch.arange(BATCH).view(-1, *[1] * len(shapes[0])) % 2
    pairs = [
        (student[twice], teacher[twice]),
        (student[twice], teacher),
        (torch.zeros_like(student), teacher),
        (student, torch.zeros_like(teacher)),
        (torch.zeros_like(student), torch.zeros_like(teacher)),
        (torch.ones_like(student), torch.ones_like(teacher)),
        (student * half_zero, teacher),
    ]
    if shapes[0] == shapes[1]:
        pairs.append((teacher, teacher))
    for ours, theirs in pairs:
        ours = ours.clone().requires_grad_()
        value = loss(ours, theirs, 2)
        value.backward()
        assert torch.isfinite(value)
        assert ours.grad is not None
        assert torch.isfinite(ours.grad).all()


@every_case
def test_batches_that_do_not_fit_are_refused(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> None:
    module = _build(name, settings, shapes)
    loss = _loss(name, settings, module)
    student, teacher = _outputs(shapes)
    for ours, theirs in ((student[:-1], teacher), (student, teacher[:-1]), (student[:0], teacher[:0]), (student[0], teacher[0])):
        with pytest.raises(ConfigError, match=name):
            loss(ours, theirs)
    if module is not None:
        for ours, theirs in ((student[:, :-1], teacher), (student, teacher[:, :-1])):
            if name != "rkd_angle":  # has no weights of one width
                with pytest.raises(ConfigError, match=name):
                    loss(ours, theirs)


@every_case
def test_the_order_of_the_batch_does_not_matter(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> None:
    loss, _ = _warm(name, settings, shapes)
    student, teacher = _outputs(shapes)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    same = torch.isclose(loss(student[order], teacher[order], 2), loss(student, teacher, 2), rtol=1e-4, atol=1e-6)
    assert bool(same) == (name not in SEES_ORDER)


@every_loss
def test_numbers_out_of_range_are_refused(name: str) -> None:
    for key, parameter in OBJECTIVES.entry(name).parameters.items():
        if {"int", "float"} & set(parameter.annotation.split(" | ")):
            shapes = SHAPES.get(name, [DIFFERENT])[0]
            with pytest.raises(ConfigError, match=key):
                _loss(name, {key: -1}, _build(name, {key: -1}, shapes))(*_outputs(shapes))


@every_case
def test_state_moves_after_the_step_alone(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> None:
    loss, module = _warm(name, settings, shapes)
    if module is None:
        assert torch.equal(loss(*_outputs(shapes)), loss(*_outputs(shapes)))
        return
    before = {key: value.clone() for key, value in module.state_dict().items()}
    first = loss(*_outputs(shapes), 2)
    for seed in (7, 8):  # steps that diverge, for example
        loss(*_outputs(shapes, seed=seed), 2)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(loss(*_outputs(shapes), 2), first)
    _after_step(module)
    settled = {key: value.clone() for key, value in module.state_dict().items()}
    _after_step(module)  # nothing is left to store
    assert all(torch.equal(value, settled[key]) for key, value in module.state_dict().items())


@every_case
def test_a_resumed_run_continues_bit_for_bit(name: str, settings: dict[str, Any], shapes: tuple[Shape, Shape]) -> None:
    loss, module = _warm(name, settings, shapes)
    if module is None:
        return
    other = _build(name, settings, shapes)
    assert other is not None
    other.load_state_dict({key: value.clone() for key, value in module.state_dict().items()})
    resumed = _loss(name, settings, other)
    for step in range(2, 6):
        student, teacher = _outputs(shapes, seed=step)
        student.requires_grad_()
        values = []
        for one, part in ((loss, module), (resumed, other)):
            values.append(one(student, teacher, step))
            part.zero_grad()
            values[-1].backward()
            with torch.no_grad():
                for parameter in part.parameters():
                    parameter -= 0.1 * (0 if parameter.grad is None else parameter.grad)
            _after_step(part)
        assert torch.equal(*values)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in module.state_dict().items())
