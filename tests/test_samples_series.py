"""Windows of a sensor as samples: gaps, statistics, hand-made features against loops, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from kinshot.core.errors import DataError
from kinshot.datasets.fields import FieldsSource
from kinshot.datasets.series import SeriesSource
from kinshot.samples.hand_features import FREQUENCIES, hand_features
from kinshot.samples.series import SeriesSpec
from kinshot.samples.spec import input_of, spec_from_dict

GAPS = np.random.default_rng(0).normal([[[101325.0], [-3.0], [0.5]]], [[[0.5], [4.0], [0.01]]], (9, 3, 40)).astype(np.float32)
GAPS[2, :, 30:] = np.nan  # shorter than the others
GAPS[4, 1] = np.nan  # a channel that was not connected
GAPS[5, 0, 7:12] = np.nan  # a burst
GAPS[6] = np.nan  # nothing at all
SOURCE = SeriesSource(GAPS, 50)
SPEC = input_of(SOURCE)


def test_gaps_stay_gaps_and_enter_no_statistic():
    assert np.array_equal(SOURCE.load(range(9)).numpy(), GAPS, equal_nan=True)
    channels = [GAPS[:, c].astype(np.float64)[~np.isnan(GAPS[:, c])] for c in range(3)]
    np.testing.assert_allclose(SPEC.mean, [values.mean() for values in channels], rtol=1e-12)
    np.testing.assert_allclose(SPEC.std, [values.std() for values in channels], rtol=1e-9)
    x = SPEC.prepare(SOURCE.load(range(9)))
    assert np.array_equal(x.isnan().numpy(), np.isnan(GAPS))
    np.testing.assert_allclose(SPEC.denormalize(x).numpy(), GAPS, rtol=1e-6, atol=1e-6)


def test_statistics_do_not_depend_on_how_samples_are_read_and_a_constant_channel_has_spread_one():
    many = np.tile(GAPS, (60, 1, 1))  # more than one chunk
    many[:, 2] = 0.3
    found = input_of(SeriesSource(many, 50))
    np.testing.assert_allclose(found.mean[:2], SPEC.mean[:2], rtol=1e-12)
    np.testing.assert_allclose(found.std[:2], SPEC.std[:2], rtol=1e-9)
    assert found.std[2] == 1


def test_what_cannot_be_measured_is_named():
    gone = GAPS.copy()
    gone[:, 1] = np.nan
    with pytest.raises(DataError, match="channel 1 is not measured in any sample: leave it out"):
        input_of(SeriesSource(gone, 50, name="belt"))
    with pytest.raises(DataError, match="holds no samples"):
        input_of(SeriesSource(GAPS[:0], 50))


def test_windows_are_cut_or_padded_at_their_end():
    batch = SOURCE.load([0, 2])
    assert torch.equal(replace(SPEC, length=25).fit(batch), batch[..., :25])
    longer = replace(SPEC, length=50)
    found = longer.fit(batch)
    assert found.shape == (2, 3, 50)
    assert torch.equal(found[0, :, :40], batch[0])
    assert found[..., 40:].isnan().all()
    assert found.dtype == batch.dtype
    back = longer.fit_normalized(SPEC.normalize(batch))
    torch.testing.assert_close(back, longer.normalize(found), equal_nan=True, atol=1e-4, rtol=1e-5)


def test_another_rate_or_other_channels_are_refused_with_what_to_do():
    with pytest.raises(DataError, match="sampled at 100 Hz, but the encoder was made for 50 Hz: resample the recordings to 50 Hz"):
        SPEC.check_source(SeriesSource(GAPS, 100))
    with pytest.raises(DataError, match=r"has 2 channels, but the encoder was made for 3: choose the same columns"):
        SPEC.check_source(SeriesSource(GAPS[:, :2], 50))
    SPEC.check_source(SeriesSource(GAPS[..., :20], 50))
    assert not SPEC.same_form(replace(SPEC, rate=25.0))
    assert SPEC.same_form(replace(SPEC, mean=(0.0,) * 3))
    assert SPEC.meets == replace(SPEC, length=9).meets != replace(SPEC, rate=25.0).meets
    infinite, complex_ones = torch.full((1, 3, 40), torch.inf), torch.zeros(1, 3, 40, dtype=torch.complex64)
    for wrong in (infinite, complex_ones, torch.zeros(1, 2, 40), torch.zeros(3, 40)):
        with pytest.raises(DataError, match=r"this encoder was made for series \(B, 3, T\) at 50 Hz"):
            SPEC.prepare(wrong)


@pytest.mark.parametrize(
    ("windows", "rate", "message"),
    [
        (np.zeros((3, 4)), 50, "expected windows of numbers"),
        (np.zeros((3, 0, 4)), 50, "expected windows of numbers"),
        (np.zeros((1, 2, 3), complex), 50, "expected windows of numbers"),
        (np.array([[["a"]]]), 50, "expected windows of numbers"),
        (np.array([[[0.0, 1.0], [0.0, -np.inf]]]), 50, "window 0, channel 1, step 1 is -inf"),
        (np.array([[[1e300]]]), 50, "window 0, channel 0, step 0 is 1e"),
        (np.zeros((1, 1, 1)), 0, "a rate in Hz above 0, got 0"),
        (np.zeros((1, 1, 1)), math.nan, "a rate in Hz above 0, got nan"),
    ],
)
def test_windows_that_are_none_are_refused(windows, rate, message):
    with pytest.raises(DataError, match=f"belt: .*{message}"):
        SeriesSource(windows, rate, name="belt")


def test_the_rate_is_part_of_what_a_source_is():
    assert SeriesSource(GAPS, 50).fingerprint() == SOURCE.fingerprint() != SeriesSource(GAPS, 25).fingerprint()


def test_a_sensor_that_a_sample_lacks_is_loaded_as_not_measured():
    there = np.arange(9) % 2 == 0
    other = SeriesSource(np.ones((9, 1, 8)), 10)
    both = FieldsSource({"belt": SOURCE, "wrist": other}, present={"wrist": there})
    found = both.load(range(9), ("wrist",))["wrist"]
    assert (found[there] == 1).all()
    assert found[~there].isnan().all()
    assert both.inputs()["wrist"].mean == (1.0,)


def by_loops(window: np.ndarray) -> list[float]:
    """The features of one window (C, T), written down once more."""
    found: list[float] = []
    for channel in window.astype(np.float64):
        known = channel[~np.isnan(channel)]
        frequencies = min(FREQUENCIES, len(channel) // 2)
        if not len(known):
            found += [0.0] * (5 + frequencies)
            continue
        differences = [abs(b - a) for a, b in pairwise(channel) if not np.isnan(a) and not np.isnan(b)]
        found += [known.mean(), known.std(), known.min(), known.max(), np.mean(differences) if differences else 0.0]
        filled = np.where(np.isnan(channel), 0.0, channel - known.mean())
        steps = np.arange(len(channel))
        for k in range(1, frequencies + 1):
            turn = 2 * np.pi * k * steps / len(channel)
            found.append(math.log(1 + math.hypot((filled * np.cos(turn)).sum(), (filled * np.sin(turn)).sum())))
    return found


@pytest.mark.parametrize("length", [1, 2, 9, 31, 40])
def test_hand_made_features_equal_a_loop(length):
    windows = GAPS[..., :length] - np.array([[101320.0], [0.0], [0.0]], np.float32)
    found = hand_features(torch.from_numpy(windows))
    assert found.dtype == torch.float32
    assert found.shape == (9, 3 * (5 + min(FREQUENCIES, length // 2)))
    np.testing.assert_allclose(found.numpy(), [by_loops(window) for window in windows], rtol=1e-4, atol=1e-5)


def test_hand_made_features_of_a_wave_lie_at_its_frequency():
    steps = torch.arange(120) / 60
    waves = torch.stack([torch.sin(2 * torch.pi * hertz * steps) for hertz in (1.0, 4.5, 7.5)]).unsqueeze(1)
    frequencies = hand_features(waves)[:, 5:]
    assert frequencies.argmax(1).tolist() == [1, 8, 14]  # of half a hertz each
    assert frequencies.amax(1).tolist() == pytest.approx([math.log(1 + 60)] * 3)
    assert torch.equal(SPEC.raw(SOURCE.load([6])), torch.zeros(1, 60))


def test_raw_features_are_finite_whatever_is_missing():
    assert SPEC.raw(SOURCE.load(range(9))).isfinite().all()


def test_a_rate_may_be_a_whole_number_in_a_file():
    assert SeriesSpec.from_dict({**SPEC.to_dict(), "rate": 50}) == SPEC


def test_a_relative_sensor_counts_around_the_mean_of_its_window():
    """A barometer's level is weather: a climb of three metres is a thirtieth of its spread over recordings, and all of it in a window."""
    rng = np.random.default_rng(0)
    level, climb = rng.normal(1000, 12, (40, 1, 1)), np.linspace(0, 0.3, 25) * rng.choice([-1, 1], (40, 1, 1))
    x = level + climb + rng.normal(0, 0.02, (40, 1, 25))
    x[3, 0, 20:], x[5, 0, 1:] = np.nan, np.nan
    source = SeriesSource(x, 10)
    spec = replace(source.spec, relative=True).measured(source)
    centred = x - np.nanmean(x, axis=2, keepdims=True)
    assert spec.std[0] == pytest.approx(np.nanstd(centred), rel=1e-3)
    assert spec.mean[0] == pytest.approx(0, abs=1e-6)
    expected = torch.from_numpy(centred / np.nanstd(centred)).float()
    # a value of 1000 is told to 6e-5 in float32
    torch.testing.assert_close(spec.normalize(source.load(range(40))), expected, atol=2e-3, rtol=0, equal_nan=True)
    assert not spec.same_form(input_of(source))
    assert spec_from_dict(spec.to_dict()) == spec
    assert torch.equal(spec.raw(source.load([0, 1])), source.spec.raw(source.load([0, 1])))
