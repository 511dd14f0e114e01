"""Dense episodes to train on: keyed draws, the layout of a batch, and the way back to support and query."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError, DataError
from kinshot.segmentation.training_episodes import SceneOrder, SceneShape, dense_of_batch, scene_order

N, C = 40, 4
PHOTOS = np.arange(N) // 2
CONTAINS = np.zeros((N, C), dtype=bool)
CONTAINS[np.arange(N), PHOTOS % C] = True
CONTAINS[::5, 0] = True
SHAPE = SceneShape(2, 2, 3, 4)


def order(seed: int = 0, steps: int = 3) -> SceneOrder:
    return SceneOrder(CONTAINS, PHOTOS, SHAPE, steps, seed)


def context(**more: object) -> RunContext:
    given = {"num_samples": N, "batch_size": SHAPE.batch, "steps_per_epoch": 3, "total_steps": 9, "seed": 0, "contains": CONTAINS}
    return RunContext(**{**given, "photos": PHOTOS, **more})  # type: ignore[arg-type]


def test_a_batch_is_laid_out_by_tasks_with_the_support_way_by_way_before_the_queries() -> None:
    found = order()
    for epoch in range(2):
        batches = found(epoch)
        assert batches.shape == (3, 4 * (2 * 2 + 3))
        assert batches.dtype == torch.int64
        for row in range(3):
            classes = found.classes(epoch * 3 + row)
            support, query = SHAPE.split(batches[row])
            assert support.shape == (4, 2, 2)
            assert query.shape == (4, 3)
            for task in range(4):
                assert len(set(classes[task])) == 2
                for way in range(2):
                    assert CONTAINS[support[task, way], classes[task, way] - 1].all()
                assert CONTAINS[query[task]][:, classes[task] - 1].any(axis=1).all()
                assert not set(PHOTOS[support[task].flatten()]) & set(PHOTOS[query[task]])


def test_draws_depend_on_seed_epoch_and_episode_alone() -> None:
    one, other = order(), order(steps=1)
    last = one(1)
    other(7)
    assert torch.equal(other(1)[0], last[0])  # fewer steps, another history: the same episodes
    for _ in range(4):
        one(3), one(9)
    assert torch.equal(one(1), last)
    assert not torch.equal(one(0), last)
    assert not torch.equal(order(seed=1)(1), last)


def test_a_step_in_the_middle_knows_its_classes_without_those_before_it() -> None:
    one = order()
    for epoch in range(3):
        one(epoch)
    assert all(np.array_equal(order().classes(step), one.classes(step)) for step in range(9))


def test_dense_episodes_of_a_batch() -> None:
    size, found = 6, order()
    masks = torch.randint(0, C + 2, (SHAPE.batch, size, size), generator=torch.Generator().manual_seed(0))
    masks[:, 0, 0] = 255
    maps = {"a": torch.randn(SHAPE.batch, 5, 3, 3), "b": torch.randn(SHAPE.batch, 2, 6, 6)}
    classes = torch.from_numpy(found.classes(0))
    episodes, target = dense_of_batch(maps, masks, classes, SHAPE)
    assert episodes.stage == "a"
    assert (episodes.ways, episodes.shots, target.shape) == (2, 2, (4, 3, size, size))
    for task in range(4):
        rows = slice(task * 7, (task + 1) * 7)
        for place, mask in enumerate(masks[rows]):
            expected = torch.zeros_like(mask)
            for way in range(2):
                expected[mask == classes[task, way]] = way + 1
            expected[mask == 255] = 255
            shown = episodes.masks[task, place // 2, place % 2] if place < 4 else target[task, place - 4]
            assert torch.equal(shown, expected)
            for name, values in maps.items():
                at = episodes.support[name][task, place // 2, place % 2] if place < 4 else episodes.query[name][task, place - 4]
                assert torch.equal(at, values[rows][place])


@pytest.mark.parametrize(
    ("shape", "more", "error", "words"),
    [
        (SHAPE, {"contains": None}, ConfigError, "learns from class maps"),
        (SceneShape(0, 1, 1, 1), {}, ConfigError, "ways must be at least 1"),
        (SHAPE, {"batch_size": 8}, ConfigError, "set train.batch_size=28"),
        (SceneShape(5, 1, 1, 1), {"batch_size": 6}, DataError, "5"),
        (SceneShape(1, 9, 6, 1), {"batch_size": 15}, DataError, "photographs"),
    ],
)
def test_what_the_data_cannot_serve_is_said_before_a_run(shape: SceneShape, more: dict[str, object], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        scene_order("a_method", context(**more), shape)


def test_classes_with_too_few_photographs_can_be_left_out() -> None:
    few = CONTAINS.copy()
    few[:, 1] = False
    with pytest.raises(DataError, match="short_classes=leave_out"):
        scene_order("a_method", context(contains=few), SHAPE)
    found = scene_order("a_method", context(contains=few), SHAPE, "leave_out")
    assert {int(c) for step in range(9) for c in found.classes(step).ravel()} == {1, 3, 4}
