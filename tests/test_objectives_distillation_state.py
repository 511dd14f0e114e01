"""Distillation losses with queues and learned parts: what they keep, when it changes, what counts as a negative."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tests.reference_distillation as ref
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.distillation.sample_queue import SampleQueue, queue_length

WIDE, SAMPLES = 4, 30


def context(samples: int = SAMPLES) -> RunContext:
    return RunContext(num_samples=samples, batch_size=3, steps_per_epoch=10, total_steps=20, seed=1)


def build(name: str, student: tuple[int, ...] = (WIDE,), teacher: tuple[int, ...] = (WIDE,), **settings: Any) -> Any:
    """The loss in float64, as the references are."""
    with keyed_initialisation(0, name):
        return OBJECTIVES.build(name, student, teacher, context(), settings=settings).double()


def steps(count: int, batch: int = 3, wide: int = WIDE) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """Student (batch, WIDE), teacher (batch, wide), indices with duplicates, step."""
    generator = torch.Generator().manual_seed(5)
    for step in range(count):
        student, teacher = (torch.randn(batch, width, generator=generator, dtype=torch.float64) for width in (WIDE, wide))
        yield student, teacher, torch.randint(6, (batch,), generator=generator), step


def unit(rows: Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(rows.detach(), dim=1).numpy()


def held(queue: SampleQueue) -> list[tuple[int, tuple[float, ...]]]:
    """What a queue holds, in no order."""
    kept = queue.held
    return sorted((int(i), tuple(k.tolist())) for i, k in zip(queue.indices[kept], queue.keys[kept], strict=True))


# -- the queue itself


@pytest.mark.parametrize(("length", "batch"), [(7, 3), (6, 3), (2, 3), (3, 3), (1, 4)])
def test_a_queue_equals_a_deque(length: int, batch: int) -> None:
    queue, expected = SampleQueue(length, WIDE).double(), deque[tuple[int, tuple[float, ...]]](maxlen=length)
    for _, keys, indices, _ in steps(8, batch):
        queue.remember(keys, indices)
        assert held(queue) == sorted(expected)
        queue.commit()
        expected.extend((int(i), tuple(k.tolist())) for i, k in zip(indices, keys, strict=True))
        assert held(queue) == sorted(expected)


def test_what_is_remembered_last_is_stored_once() -> None:
    queue = SampleQueue(4, 2)
    for value in (1.0, 2.0):
        queue.remember(torch.full((1, 2), value, requires_grad=True), torch.tensor([9]))
    queue.commit()
    queue.commit()
    assert held(queue) == [(9, (2.0, 2.0))]
    assert not queue.keys.requires_grad


def test_keys_of_others() -> None:
    queue = SampleQueue(4, 1)
    queue.remember(torch.ones(3, 1), torch.tensor([0, 5, 0]))
    queue.commit()
    expected = [[False, True, False, False], [True, False, True, False], [True, True, True, False]]
    assert queue.of_others(torch.tensor([0, 5, 1])).tolist() == expected


def test_a_queue_holds_no_more_than_the_data_set() -> None:
    assert queue_length(65536, 100) == 100
    assert queue_length(64, 100) == 64
    for call in (lambda: queue_length(0, 100), lambda: SampleQueue(0, 3)):
        with pytest.raises(ConfigError, match="at least 1 key"):
            call()


def test_a_queue_wants_an_index_for_each_key() -> None:
    with pytest.raises(ConfigError, match="one sample index for each of 3 rows"):
        SampleQueue(4, 2).remember(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))


# -- losses against a reference that keeps deques


def test_seed_equals_loops_over_a_deque() -> None:
    loss, queue = build("seed", size=7, teacher_temperature=0.1), deque[np.ndarray](maxlen=7)
    for student, teacher, indices, step in steps(6):
        expected = ref.seed(student.numpy(), teacher.numpy(), list(queue), Tt=0.1)
        assert loss(student, teacher, indices, step).item() == pytest.approx(expected, abs=1e-10)
        loss.after_step()
        queue.extend(unit(teacher))


@pytest.mark.parametrize("variant", ["1q", "2q"])
def test_compress_equals_loops_over_deques(variant: str) -> None:
    wide = WIDE if variant == "1q" else 5
    loss = build("compress", teacher=(wide,), variant=variant, size=7, temperature=0.2)
    of_student, of_teacher = (deque[np.ndarray](maxlen=7) for _ in range(2))
    for student, teacher, indices, step in steps(6, wide=wide):
        anchors = of_teacher if variant == "1q" else of_student
        expected = ref.compress(student.numpy(), teacher.numpy(), anchors, of_teacher, 0.2) if anchors else 0.0
        assert loss(student, teacher, indices, step).item() == pytest.approx(expected, abs=1e-10)
        loss.after_step()
        of_student.extend(unit(student))
        of_teacher.extend(unit(teacher))


def test_crd_equals_loops_over_deques_that_know_their_samples() -> None:
    loss = build("crd", teacher=(5,), size=7, dim=3)
    queue = deque[tuple[int, np.ndarray, np.ndarray]](maxlen=7)
    constants = None
    for student, teacher, indices, step in steps(8, wide=5):
        v1, v2 = unit(loss.project_student(student)), unit(loss.project_teacher(teacher))
        others = [[(k1, k2) for i, k1, k2 in queue if i != own] for own in indices.tolist()]
        keys1 = [[v1[b], *(k1 for k1, _ in row)] for b, row in enumerate(others)]
        keys2 = [[v2[b], *(k2 for _, k2 in row)] for b, row in enumerate(others)]
        expected, found = ref.crd(v1, v2, keys1, keys2, SAMPLES, constants)
        assert loss(student, teacher, indices, step).item() == pytest.approx(expected, abs=1e-9)
        loss.after_step()
        if any(others):
            constants = constants or found
            assert loss.log_z.exp().tolist() == pytest.approx(constants)
        assert bool(loss.fixed) == (constants is not None)
        queue.extend((int(i), a, b) for i, a, b in zip(indices, v1, v2, strict=True))


def test_crd_fixes_z_at_the_first_step_with_a_negative_and_keeps_it() -> None:
    loss = build("crd", size=9, dim=3)
    seen = []
    for student, teacher, _, step in steps(5):
        # the first two steps show the same samples, so that nothing in the queue is a negative
        indices = torch.arange(3) if step < 2 else torch.arange(3) + 3 * step
        indices = torch.zeros_like(indices) if step < 2 else indices
        value = loss(student, teacher, indices, step)
        assert (value == 0) == (step < 2)
        seen.append((bool(loss.fixed), loss.log_z.tolist()))
        loss.after_step()
    assert [fixed for fixed, _ in seen] == [False, False, False, True, True]
    assert seen[2][1] == [0, 0]
    assert seen[3] == seen[4]
    assert "log_z" in loss.state_dict()
    assert "fixed" in loss.state_dict()


def test_crd_takes_no_key_of_the_same_sample_for_a_negative() -> None:
    """However the queue's keys of a sample look, the sample's own loss does not change."""
    loss = build("crd", size=6, dim=3)
    student, teacher, _, _ = next(steps(1))
    for start in (0, 3):
        loss(student + start, teacher - start, torch.arange(3) + start, 0)
        loss.after_step()
    alone = student[:1], teacher[:1], torch.tensor([4]), 2
    loss(*alone)
    loss.after_step()
    before = loss(*alone)
    own = loss.of_teacher.indices == 4
    assert own.sum() == 2
    for queue in (loss.of_teacher, loss.of_student):
        queue.keys[own] = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert loss(*alone) == before
    for queue in (loss.of_teacher, loss.of_student):
        queue.keys[~own] = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert loss(*alone) != before


def test_both_projections_of_crd_learn() -> None:
    loss = build("crd", size=9, dim=3)
    for student, teacher, _, step in steps(3):
        loss.zero_grad()
        loss(student, teacher, torch.arange(3) + 3 * step, step).backward()
        loss.after_step()
    assert all(parameter.grad.abs().max() > 0 for parameter in loss.parameters())


# -- learned parts


def test_fitnet_equals_loops() -> None:
    generator = torch.Generator().manual_seed(2)
    for shapes in (((3,), (5,)), ((3, 4, 6), (5, 2, 6))):
        loss = build("fitnet", *shapes)
        s, t = (torch.randn(2, *shape, generator=generator, dtype=torch.float64) for shape in shapes)
        expected = ref.fitnet(s.numpy(), t.numpy(), loss.regressor.weight.detach().numpy(), loss.regressor.bias.detach().numpy())
        assert loss(s, t, torch.arange(2), 0).item() == pytest.approx(expected, abs=1e-10)


def test_congruence_equals_loops() -> None:
    loss = build("correlation_congruence", teacher=(5,), dim=3)
    student, teacher, indices, step = next(steps(1, batch=6, wide=5))
    expected = ref.correlation_congruence(loss.of_student(student).detach().numpy(), loss.of_teacher(teacher).detach().numpy())
    assert loss(student, teacher, indices, step).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_simreg_equals_loops(blocks: int) -> None:
    loss = build("simreg", teacher=(5,), blocks=blocks)
    student, teacher, indices, step = next(steps(1, batch=6, wide=5))
    x = student.numpy()
    layers = list(loss.head)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [2 * WIDE, WIDE] * (blocks - 1) + [2 * WIDE, 5]
    for number, layer in enumerate(linear):
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if number % 2 == 0:
            x = np.maximum((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 0)
    assert loss(student, teacher, indices, step).item() == pytest.approx(ref.simreg(x, teacher.numpy()), abs=1e-10)
    assert not list(loss.buffers())
    loss.eval()
    assert loss(student, teacher, indices, step).item() == pytest.approx(ref.simreg(x, teacher.numpy()), abs=1e-10)


@pytest.mark.parametrize("name", ["fitnet", "simreg", "crd"])
def test_training_lowers_the_loss(name: str) -> None:
    """A linear student of a linear teacher gets closer to it."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(SAMPLES, WIDE, generator=generator)
    teacher = x @ torch.randn(WIDE, 5, generator=generator)
    with keyed_initialisation(0, name):
        student, loss = nn.Linear(WIDE, 3), OBJECTIVES.build(name, (3,), (5,), context(), settings={})
    optimizer = torch.optim.Adam([*student.parameters(), *loss.parameters()], lr=0.02)
    values = []
    for step in range(60):
        rows = (torch.arange(10) + 10 * step) % SAMPLES
        value = loss(student(x[rows]), teacher[rows], rows, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if hasattr(loss, "after_step"):
            loss.after_step()
        values.append(value.item())
    # CRD's first steps have few negatives or none, so that its values compare from the second epoch on
    assert np.mean(values[-6:]) < 0.85 * np.mean(values[6:12])


# -- the border


@pytest.mark.parametrize(
    ("name", "student", "teacher", "settings", "said"),
    [
        ("seed", (4,), (5,), {}, r"\(4,\) and teacher \(5,\): give the student a projection to 5"),
        ("seed", (4, 2, 2), (4,), {}, "take a layer after pooling"),
        ("seed", (4,), (4,), {"size": 0}, "size"),
        ("compress", (4,), (5,), {"variant": "1q"}, "2q takes other widths"),
        ("compress", (4,), (5,), {"variant": "3q"}, "3q"),
        ("fitnet", (4,), (5, 2, 2), {}, "on both"),
        ("fitnet", (4, 2), (5, 2), {}, "on both"),
        ("crd", (4, 2, 2), (5,), {}, r"embedding \(D,\) of the student"),
        ("crd", (4,), (5,), {"temperature": 0.0}, "temperature"),
        ("simreg", (4,), (5,), {"blocks": 0}, "blocks"),
        ("correlation_congruence", (4,), (5,), {"dim": 0}, "dim"),
    ],
)
def test_shapes_and_settings_that_do_not_fit_are_refused(
    name: str, student: tuple[int, ...], teacher: tuple[int, ...], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build(name, student, teacher, **settings)


@pytest.mark.parametrize("name", ["simreg", "correlation_congruence"])
def test_one_sample_is_not_a_batch(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        build(name)(torch.zeros(1, WIDE), torch.zeros(1, WIDE), torch.zeros(1, dtype=torch.int64), 0)


@pytest.mark.parametrize("name", ["seed", "compress", "crd"])
def test_losses_with_a_queue_want_an_index_for_each_row(name: str) -> None:
    with pytest.raises(ConfigError, match="one sample index for each of 3 rows"):
        build(name)(torch.zeros(3, WIDE), torch.zeros(3, WIDE), torch.arange(2), 0)
