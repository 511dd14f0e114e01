"""What an embedder is given: images in their range, features that are numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinshot.core.errors import DataError
from kinshot.learn.model import Model
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec

IMAGES = torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def image_model():
    spec = PixelSpec.square(3, 16, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    return Model(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), nn.Identity(), input=spec).eval()


def test_float_images_are_what_their_bytes_are(image_model):
    expected = image_model.embed(IMAGES)["backbone"]
    for same in (IMAGES.float() / 255, IMAGES.double() / 255, torch.zeros(0, 3, 16, 16)):
        torch.testing.assert_close(image_model.embed(same)["backbone"], expected[: len(same)])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x * 255, "values from 0 to 255"),
        (lambda x: x - 0.5, "values from -0.5 to 0.5"),
        (lambda x: (x * 255).long(), "int64"),
        (lambda x: x.masked_fill(x == x[1, 0, 2, 3], float("nan")), "nan"),
        (lambda x: x.masked_fill(x == x[0, 0, 0, 0], float("inf")), "inf"),
    ],
)
def test_images_beyond_their_range_are_refused(image_model, change, told):
    with pytest.raises(DataError, match=f"in \\[0, 1\\].*{told}"):
        image_model.embed(change(IMAGES.float() / 255))
    with pytest.raises(DataError, match="in \\[0, 1\\]"):
        image_model(change(IMAGES.float() / 255))


def test_features_that_are_no_numbers_are_refused():
    model = Model(nn.Linear(3, 2), nn.Identity(), input=RowSpec(3, (0.0,) * 3, (1.0,) * 3)).eval()
    with pytest.raises(DataError, match="finite"):
        model.embed(torch.tensor([[0.0, 1.0, float("nan")]]))
