"""The filter that brings images to an encoder's size is the specification's, and is Pillow's of that name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.samples.pixels import INTERPOLATIONS, PixelSpec
from kinshot.samples.spec import spec_from_dict


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [12, 40])
def test_images_are_resized_as_pillow_resizes_them(interpolation: str, size: int) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 24, 24), dtype=np.uint8))
    found = PixelSpec.square(3, size, (0.5,) * 3, (0.5,) * 3, interpolation).fit(images.float().div(255))
    square, wanted = (size, size), Image.Resampling[interpolation.upper()]
    pillow = [np.asarray(Image.fromarray(one.permute(1, 2, 0).numpy()).resize(square, wanted)) for one in images]
    expected = torch.from_numpy(np.stack(pillow)).permute(0, 3, 1, 2).float()
    # Pillow rounds and cuts to whole values between rows and columns, too: on noise that moves a few pixels by more than a level
    assert (found * 255 - expected).abs().mean() < 1
    assert (found * 255 - expected).abs().max() < 30
    assert 0 <= found.min() <= found.max() <= 1


def test_the_filter_survives_a_file_and_older_files_have_the_bilinear_one() -> None:
    spec = PixelSpec.square(1, 28, (0.1,), (0.3,), "bicubic")
    written = json.loads(json.dumps(spec.to_dict()))
    assert spec_from_dict(written) == spec
    del written["interpolation"]
    assert spec_from_dict(written) == PixelSpec.square(1, 28, (0.1,), (0.3,), "bilinear")
    with pytest.raises(ValueError, match="lanczos"):
        spec_from_dict({**written, "interpolation": "lanczos"})
