"""Windows of frames: values, forms and statistics, with frames that there are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.errors import DataError
from kinshot.datasets.videos import FramesSource
from kinshot.samples.frames import FramesSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import input_of

NAN = float("nan")
SPEC = FramesSpec(5, 3, 6, 8, 4.0, (0.5, 0.4, 0.3), (0.2, 0.1, 0.3))


def shown() -> torch.Tensor:
    """Three windows: whole, short with a gap, and without a frame."""
    x = torch.rand(3, *SPEC.shape, generator=torch.Generator().manual_seed(0))
    x[1, :, 3:], x[1, :, 1], x[2] = NAN, NAN, NAN
    return x


def test_bytes_and_floats_are_the_same_frames():
    bytes_ = torch.randint(0, 256, (2, *SPEC.shape), dtype=torch.uint8)
    assert torch.equal(SPEC.prepare(bytes_), SPEC.prepare(bytes_.float() / 255))
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (SPEC.mean, SPEC.std))
    torch.testing.assert_close(SPEC.prepare(bytes_), (bytes_ / 255 - mean) / std)
    assert torch.equal(SPEC.prepare(shown()).isnan(), shown().isnan())


def test_frames_are_brought_to_the_form_as_images_are():
    x = shown()
    other = FramesSpec(7, 1, 3, 4, 4.0, (0.5,), (0.2,))
    found = other.fit(x)
    assert found.shape == (3, *other.shape)
    for b in range(3):
        for t in range(5):
            torch.testing.assert_close(found[b, :, t], other.image.fit(x[b : b + 1, :, t])[0], equal_nan=True)
    assert found[:, :, 5:].isnan().all()
    assert torch.equal(SPEC.fit(x[:, :, :5, :, :]).nan_to_num(), x.nan_to_num())
    assert SPEC.fit(torch.rand(2, 3, 9, 6, 8)).shape == (2, *SPEC.shape)
    whole = torch.randint(0, 256, (2, 3, 5, 12, 16), dtype=torch.uint8)
    assert SPEC.fit(whole).dtype == torch.uint8
    short = SPEC.fit(whole[:, :, :2])
    assert short.isnan().flatten(3).all(3).tolist() == [[[False, False, True, True, True]] * 3] * 2
    assert short[:, :, :2].max() <= 1


def test_statistics_are_over_the_frames_that_there_are():
    x = shown().numpy().astype(np.float64)
    spec = input_of(FramesSource(shown().numpy(), 4.0))
    for channel in range(3):
        values = [v for v in x[:, channel].ravel() if not np.isnan(v)]
        assert spec.mean[channel] == pytest.approx(np.mean(values), abs=1e-6)
        assert spec.std[channel] == pytest.approx(np.std(values), abs=1e-6)


def test_raw_features_are_mean_and_spread_of_pixels_over_time():
    x = shown()
    found = SPEC.raw(x)
    assert found.shape == (3, 2 * 3 * 6 * 8)
    there = x[1, :, [0, 2]].numpy().astype(np.float64)
    np.testing.assert_allclose(found[1], np.concatenate([there.mean(1).ravel(), there.std(1).ravel()]), atol=1e-6)
    assert found[2].abs().max() == 0


def test_an_image_is_what_a_frame_is():
    image = PixelSpec(3, 6, 8, SPEC.mean, SPEC.std)
    assert SPEC.image == image
    assert FramesSpec.of(image, 5, 4.0) == SPEC


def test_what_does_not_fit_is_named():
    with pytest.raises(DataError, match=r"values in \[0, 1\], got values from 0 to 255: divide pixels"):
        SPEC.prepare(torch.linspace(0, 255, 720).view(1, *SPEC.shape))
    with pytest.raises(DataError, match=r"got torch\.int64"):
        SPEC.prepare(torch.zeros(1, *SPEC.shape, dtype=torch.int64))
    with pytest.raises(DataError, match="has frames at 5 Hz, but the encoder was made for 4 Hz: leave out or repeat frames"):
        SPEC.check_source(FramesSource(np.zeros((2, *SPEC.shape), np.uint8), 5.0))
    SPEC.check_source(FramesSource(np.zeros((2, 1, 9, 4, 4), np.uint8), 4.0))
    with pytest.raises(DataError, match="channel 0 is not measured in any sample"):
        input_of(FramesSource(np.full((2, *SPEC.shape), NAN, np.float32), 4.0))
