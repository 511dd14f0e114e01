"""Maps that are kept while there is room."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.segmentation.map_cache import MapCache

EACH = 2 * 3 * 4 + 2  # bytes of what `Maps` gives of an image


class Maps:
    """Two things kept of an image, from its number alone."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, rows: np.ndarray) -> dict[str, Tensor]:
        self.asked.append(rows.tolist())
        number = torch.from_numpy(rows)
        return {"map": number.float()[:, None, None] + torch.arange(6.0).view(2, 3), "mask": number[:, None].to(torch.uint8).expand(-1, 2)}


def test_what_is_taken_is_what_was_loaded_in_any_shape() -> None:
    cache = MapCache(Maps(), np.array([7, 3, 9]), 10 * EACH, 2)
    rows = np.array([[9, 3], [3, 7]])
    cache.need(rows.ravel(), 3)
    found, mask = cache.take("map", rows), cache.take("mask", rows)
    assert cache.each == EACH
    assert found.shape == (2, 2, 2, 3)
    assert found[..., 0, 0].tolist() == rows.tolist()
    assert mask.dtype == torch.uint8
    assert mask[..., 1].tolist() == rows.tolist()


def test_the_least_recently_used_go_and_batches_are_filled_with_what_comes_next() -> None:
    load, order = Maps(), np.array([0, 1, 2, 0, 3, 4, 0, 1])
    cache = MapCache(load, order, 3 * EACH, 2)
    assert cache.room == 3
    cache.need(np.array([0, 1]), 2)
    cache.need(np.array([2, 0]), 4)  # 3 is needed next, and 1 was not used for longest
    cache.need(np.array([3]), 5)
    assert load.asked == [[0, 1], [2, 3]]
    cache.need(np.array([4]), 6)  # in the place of 2; 1, which comes later, in that of 3, as 0 is needed even sooner
    assert load.asked == [[0, 1], [2, 3], [4, 1]]
    cache.need(np.array([0, 1]), 8)
    assert cache.loaded == 6
    assert cache.take("map", np.array([0, 1]))[:, 0, 0].tolist() == [0, 1]


def test_what_is_needed_together_is_held_whatever_it_takes() -> None:
    load = Maps()
    cache = MapCache(load, np.arange(20), EACH, 4)
    assert cache.room == 4
    cache.need(np.arange(3, 12), 20)
    assert cache.room == 9
    assert cache.take("map", np.arange(3, 12))[:, 0, 0].tolist() == list(range(3, 12))
    assert max(map(len, load.asked)) <= 4
    assert load.asked[0] == [0, 1, 2, 3]
    assert sorted(np.concatenate(load.asked[1:]).tolist()) == list(range(4, 12))


def test_no_more_room_is_taken_than_there_are_images() -> None:
    assert MapCache(Maps(), np.array([5, 5, 8, 5]), 1 << 30, 1).room == 2
