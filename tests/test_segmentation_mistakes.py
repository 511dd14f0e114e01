"""Where wrong pixels lie, against loops over pixels."""

from __future__ import annotations

import numpy as np
import torch

from kinshot.segmentation.mistakes import BESIDE, OF_WAYS, count_taken


def test_pixels_are_counted_as_loops_count_them() -> None:
    rng, values = np.random.default_rng(0), 6
    classes = np.array([[1, 4], [2, 3], [4, 2]])
    masks = rng.choice([0, 1, 2, 3, 4, 5, 255], size=(3, 9, 7))
    prediction = rng.integers(0, 3, size=masks.shape)
    expected = np.zeros((2, values, values), dtype=np.int64)
    for b, y, x in np.ndindex(masks.shape):
        true, way = masks[b, y, x], prediction[b, y, x]
        if true != 255:
            said = classes[b, way - 1] if way else 0
            expected[OF_WAYS if true in classes[b] else BESIDE, true, said] += 1
    found = count_taken(*map(torch.from_numpy, (prediction, masks, classes)), values)
    assert (found.numpy() == expected).all()
    assert int(found.sum()) == int((masks != 255).sum())
    assert int(found[OF_WAYS, 0].sum()) == 0, "background is no way"


def test_nothing_known_is_nothing_counted() -> None:
    masks = torch.full((1, 2, 2), 255)
    assert int(count_taken(torch.full((1, 2, 2), 255), masks, torch.tensor([[1]]), 3).sum()) == 0
