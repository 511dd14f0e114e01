"""What is done to windows of sensors, function by function, against slow references written from the formulas."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kinshot.core.rng import keyed_uniform
from kinshot.datasets.views.series.amplitude import magnitude_warped, scaled
from kinshot.datasets.views.series.geometric import geometric_spans
from kinshot.datasets.views.series.hiding import absent, dropped_channels, dropped_modalities, hidden_modality, hide, masked_spans, presence
from kinshot.datasets.views.series.normal import normal
from kinshot.datasets.views.series.permutation import segment_draws, segment_order
from kinshot.datasets.views.series.reading import measured_end, read, take_steps
from kinshot.datasets.views.series.rotation import rotate, rotations
from kinshot.datasets.views.series.shuffle import shuffled
from kinshot.datasets.views.series.spectrum import frequency_masked, phase_shifted
from kinshot.datasets.views.series.stretch import change_rate, crop_time
from kinshot.datasets.views.series.time_warp import warp_time
from kinshot.datasets.views.series.two_crops import two_crops

NAN = math.nan
seeds = st.integers(0, 2**16)


def uniform(seed: int, rows: int, columns: int) -> Tensor:
    """Draws as views make them."""
    return torch.from_numpy(keyed_uniform(seed, "test", 0, np.arange(rows), columns))


def windows(seed: int, rows: int = 4, channels: int = 3, steps: int = 20, gaps: float = 0.2) -> Tensor:
    """Normal noise with gaps."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels, steps, generator=generator)
    return x.masked_fill(torch.rand(x.shape, generator=generator) < gaps, NAN)


def equal(found: Tensor, expected: np.ndarray | Tensor, atol: float = 1e-5) -> None:
    """Close, and not measured in the same places."""
    torch.testing.assert_close(found.double(), torch.as_tensor(expected).double(), rtol=0, atol=atol, equal_nan=True)


def test_normal_numbers_are_the_quantiles_of_their_draws() -> None:
    u = torch.cat([torch.tensor([0.0, 2.0**-24, 0.5, 1 - 2.0**-24]), uniform(0, 1, 200)[0]])
    expected = [NormalDist().inv_cdf(float(one) + 2.0**-25) for one in u]
    equal(normal(u), np.array(expected), atol=2e-3)
    assert 5 < float(normal(torch.tensor([1 - 2.0**-24]))) < 5.5


# ---- time


def read_slowly(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    found = np.full((*x.shape[:2], positions.shape[1]), NAN)
    for row, channel, place in np.ndindex(found.shape):
        p, steps = positions[row, place], x.shape[2]
        if not -0.501 <= p <= steps - 0.499:
            continue
        before = min(max(math.floor(p), 0), steps - 1)
        after, part = min(before + 1, steps - 1), min(max(p - before, 0.0), 1.0)
        a, b = x[row, channel, before], x[row, channel, after]
        nearest = a if part < 0.5 else b
        found[row, channel, place] = nearest if math.isnan(a) or math.isnan(b) else a + part * (b - a)
    return found


@given(seeds, st.integers(1, 12))
def test_reading_between_steps_invents_nothing_and_widens_no_gap(seed: int, steps: int) -> None:
    x = windows(seed, rows=2, steps=steps)
    positions = uniform(seed, 2, 15) * (steps + 3) - 2
    found = read(x, positions)
    equal(found, read_slowly(x.double().numpy(), positions.double().numpy()))
    whole = torch.arange(steps).float().expand(2, -1)
    equal(read(x, whole), x, atol=0)
    halves = torch.repeat_interleave(whole, 2, 1) + torch.tensor([-0.25, 0.25]).repeat(steps)  # twice as slow: gaps twice as wide
    assert int(read(x, halves).isnan().sum()) == 2 * int(x.isnan().sum())


def test_the_end_of_a_window_is_that_of_its_last_measured_step() -> None:
    x = torch.full((4, 2, 8), NAN)
    x[0, 1, 5], x[1, 0, 0], x[2] = 1.0, 1.0, 1.0
    assert measured_end(x).tolist() == [0.75, 0.125, 1.0, 0.0]


@given(seeds, st.integers(2, 7), st.floats(0.0, 1.0))
def test_warped_time_is_smooth_and_never_turns_back(seed: int, knots: int, deviation: float) -> None:
    u, fine = uniform(seed, 3, knots), torch.linspace(0, 1, 2001).expand(3, -1)
    found = warp_time(fine, u, deviation)
    equal(found[:, [0, -1]], np.array([[0.0, 1.0]] * 3), atol=2e-6)
    assert (found.diff(dim=1) > 0).all()
    speeds = np.array([[math.exp(deviation * NormalDist().inv_cdf(float(one) + 2.0**-25)) for one in row] for row in u])
    for row, speed in enumerate(speeds):  # the integral of the speeds, by trapezoids
        values = np.interp(np.linspace(0, 1, 2001), np.linspace(0, 1, knots), speed)
        passed = np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2)])
        np.testing.assert_allclose(found[row].double().numpy(), passed / passed[-1], atol=2e-4)


@given(seeds, st.floats(0.1, 1.0))
def test_a_crop_and_another_rate_show_a_stretch_of_the_window(seed: int, least: float) -> None:
    time, u = torch.linspace(0, 1, 11).expand(5, -1), uniform(seed, 5, 2)
    crop = crop_time(time, u, least)
    assert (crop >= -1e-6).all() and (crop <= 1 + 1e-6).all()  # noqa: PT018
    assert (crop[:, -1] - crop[:, 0] >= least - 1e-5).all()
    for row in range(5):
        share = least + (1 - least) * float(u[row, 0])
        expected = [share * float(t) + (1 - share) * float(u[row, 1]) for t in time[row]]
        np.testing.assert_allclose(crop[row].numpy(), expected, atol=1e-5)
    fast, slow = change_rate(time, u, (1.25, 1.25)), change_rate(time, u, (0.8, 0.8))
    equal(fast, time * 1.25)
    equal(slow[:, -1] - slow[:, 0], torch.full((5,), 0.8))
    assert (slow >= -1e-6).all() and (slow <= 1 + 1e-6).all()  # noqa: PT018


def order_slowly(steps: int, end: float, u: np.ndarray, least: int) -> list[int]:
    most = len(u) // 2
    count = least + math.floor(u[0] * (most - least + 1))
    last = math.ceil(end * steps - 1e-3)
    cuts = sorted(min(round(float(np.float32(cut) * np.float32(end * steps))), last) for cut in u[1:count])
    edges = [0, *cuts, *[last] * (most - count + 1)]
    pieces = [list(range(a, b)) for a, b in pairwise(edges)]
    return [step for piece in np.argsort(u[most:]) for step in pieces[piece]] + list(range(last, steps))


@given(seeds, st.integers(1, 8), st.integers(1, 40), st.integers(1, 40))
def test_segments_change_places_and_no_step_is_lost(seed: int, most: int, steps: int, measured: int) -> None:
    end = torch.tensor([1.0, min(measured, steps) / steps])
    u = uniform(seed, 2, segment_draws(most))
    order = segment_order(steps, end, u)
    assert order.tolist() == [order_slowly(steps, float(e), row.numpy(), 1) for e, row in zip(end, u, strict=True)]
    assert order.sort(dim=1).values.tolist() == [list(range(steps))] * 2
    x = windows(seed, rows=2, steps=steps)
    found = take_steps(x, order)
    equal(found.nan_to_num(9.0).sort(dim=2).values, x.nan_to_num(9.0).sort(dim=2).values, atol=0)  # the same values, and as many gaps


def test_permuted_channels_stay_themselves() -> None:
    """Public code of TS-TCC gives every channel the permuted first one."""
    x = torch.arange(5.0).view(1, 5, 1).expand(3, 5, 30)
    order = segment_order(30, torch.ones(3), uniform(0, 3, segment_draws(6)), least=4)
    assert (order != torch.arange(30)).any(dim=1).all()
    equal(take_steps(x, order), x, atol=0)


@given(seeds)
def test_sensors_of_other_rates_are_cut_at_the_same_instants(seed: int) -> None:
    u = uniform(seed, 6, segment_draws(5))
    slow, fast, other = (segment_order(steps, torch.ones(6), u, least=3, grid=10) for steps in (10, 1000, 25))
    assert torch.equal(fast, slow.repeat_interleave(100, 1) * 100 + torch.arange(100).repeat(10))
    instant = (torch.arange(25) + 0.5) / 25
    cell = (instant * 10).long()
    expected = slow[:, cell] / 10 + instant - cell / 10
    apart = ((other + 0.5) / 25 - expected).abs()
    assert float((apart < 2 / 25).double().mean()) > 0.75  # a rate that is no multiple, up to two of its steps beside a cut


# ---- values


@pytest.mark.parametrize("degrees", [30.0, 180.0])
def test_rotations_are_uniform_among_those_up_to_an_angle(degrees: float) -> None:
    largest = math.radians(degrees)
    found = rotations(uniform(0, 4000, 3), largest).double()
    equal(found @ found.mT, torch.eye(3).expand(4000, 3, 3))
    equal(torch.linalg.det(found), torch.ones(4000))
    angles = ((found.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).arccos()
    assert float(angles.max()) <= largest + 1e-3
    for share in (0.2, 0.5, 0.8):  # of all rotations up to t, a share (t - sin t) / (largest - sin largest)
        t = float(angles.quantile(share))
        assert (t - math.sin(t)) / (largest - math.sin(largest)) == pytest.approx(share, abs=0.03)
    if degrees == 180:
        assert float(found.mean(0).abs().max()) < 0.03


@given(seeds)
def test_a_rotation_keeps_lengths_and_takes_no_direction_from_half_a_vector(seed: int) -> None:
    x, rotation = windows(seed, gaps=0.1), rotations(uniform(seed, 4, 3), math.pi)
    found = rotate(x, rotation)
    equal(found.norm(dim=1), x.norm(dim=1))
    for row, step in np.ndindex(4, 20):
        expected = rotation[row].double().numpy() @ x[row, :, step].double().numpy()
        np.testing.assert_allclose(found[row, :, step].double().numpy(), expected, atol=1e-5)


def natural_spline(knots: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Through values at even distances over [0, 1], its second derivative 0 at both ends."""
    n, h = len(knots), 1 / (len(knots) - 1)
    system, right = np.eye(n), np.zeros(n)
    for i in range(1, n - 1):
        system[i, i - 1 : i + 2] = 1, 4, 1
        right[i] = 6 / h**2 * (knots[i - 1] - 2 * knots[i] + knots[i + 1])
    bend = np.linalg.solve(system, right)
    found = []
    for place in places:
        i = min(int(place / h), n - 2)
        a, b = (i + 1) * h - place, place - i * h
        cubic = (bend[i] * a**3 + bend[i + 1] * b**3) / (6 * h)
        found.append(cubic + (knots[i] / h - bend[i] * h / 6) * a + (knots[i + 1] / h - bend[i + 1] * h / 6) * b)
    return np.array(found)


@given(seeds, st.integers(3, 7))
def test_magnitudes_follow_a_cubic_spline_and_scaling_a_number(seed: int, knots: int) -> None:
    x, u = windows(seed, rows=2), uniform(seed, 2, 3 * knots).view(2, 3, knots)
    found, places = magnitude_warped(x, u, torch.tensor([0.3, 0.3])), (np.arange(20) + 0.5) / 20
    for row, channel in np.ndindex(2, 3):
        values = np.array([1 + 0.3 * NormalDist().inv_cdf(float(one) + 2.0**-25) for one in u[row, channel]])
        equal(found[row, channel], x[row, channel].double().numpy() * natural_spline(values, places), atol=2e-3)
        factor = 2 + 1.1 * NormalDist().inv_cdf(float(u[row, channel, 0]) + 2.0**-25)
        equal(scaled(x, u[..., 0], 1.1, 2.0)[row, channel], x[row, channel] * factor, atol=5e-3)


@given(seeds, st.integers(1, 17))
def test_a_band_of_frequencies_is_taken_out(seed: int, steps: int) -> None:
    x, u = windows(seed, rows=3, steps=steps), uniform(seed, 3, 2)
    found, bins = frequency_masked(x, u, 0.5), steps // 2
    for row in range(3):
        width = min(max(math.floor(float(u[row, 0]) * (0.5 * bins + 1)), 1), bins)
        start = 1 + math.floor(float(u[row, 1]) * (bins - width + 1))
        for channel in range(3):
            values = x[row, channel].double().numpy()
            spectrum = np.fft.fft(np.nan_to_num(values))
            for k in range(start, start + width):
                spectrum[k] = spectrum[-k] = 0
            expected = np.fft.ifft(spectrum)
            assert abs(expected.imag).max() < 1e-9
            equal(found[row, channel], np.where(np.isnan(values), NAN, expected.real))


@given(seeds, st.integers(1, 17))
def test_turned_phases_stay_real_and_keep_energy_and_mean(seed: int, steps: int) -> None:
    x, angle = windows(seed, steps=steps, gaps=0.0), (uniform(seed, 4, 1)[:, 0] * 2 - 1) * math.pi
    found = phase_shifted(x, angle)
    equal(found.square().sum(2), x.square().sum(2), atol=1e-4)
    equal(found.mean(2), x.mean(2))
    for row in range(4):
        spectrum = np.fft.fft(x[row].double().numpy())
        for k in range(1, (steps + 1) // 2):
            spectrum[:, k] *= np.exp(1j * float(angle[row]))
            spectrum[:, -k] *= np.exp(-1j * float(angle[row]))
        equal(found[row], np.fft.ifft(spectrum).real)
    gaps = x.masked_fill(torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < 0.3, NAN)
    assert torch.equal(phase_shifted(gaps, angle).isnan(), gaps.isnan())


@given(seeds)
def test_shuffled_channels_are_the_same_channels(seed: int) -> None:
    x, u = windows(seed), uniform(seed, 4, 3)
    found = shuffled(x, u)
    for row in range(4):
        equal(found[row], x[row][np.argsort(u[row].numpy())], atol=0)


# ---- hiding


@given(seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_something_of_what_was_there_is_left(seed: int, probability: float) -> None:
    x, u = windows(seed, rows=6), uniform(seed, 6, 3)
    x[::2, 0], x[5] = NAN, NAN
    channels = dropped_channels(x, u, probability)[:, :, 0]
    there = ~x.isnan().all(dim=2)
    for row in range(6):
        others = [c for c in range(3) if there[row, c]]
        spared = max(others, key=lambda c: float(u[row, c]), default=-1)
        assert channels[row].tolist() == [c in others and c != spared and float(u[row, c]) < probability for c in range(3)]
    assert torch.equal(channels, dropped_modalities(there, u, probability))
    found = hide(x, torch.ones(6, 1, 20, dtype=torch.bool))
    equal(found, x, atol=0)  # all of it would be gone
    one = hidden_modality(there, torch.cat([u[:, :1], u], 1), probability)
    assert (one.sum(1) == ((there.sum(1) > 1) & (u[:, 0] < probability))).all()
    assert not (one & ~there).any()


def test_absence_is_not_measured_in_any_channel() -> None:
    samples = {"one": torch.zeros(2, 3, 4), "two": torch.zeros(2, 5)}
    gone = torch.tensor([[True, False], [False, True]])
    assert presence(absent(samples, gone)).tolist() == (~gone).tolist()
    assert presence(samples).all()


@given(seeds, st.integers(1, 30), st.floats(0.2, 1.0))
def test_masked_spans_cover_their_share_where_they_are_drawn(seed: int, steps: int, end: float) -> None:
    u = uniform(seed, 4, 5)
    found = masked_spans(steps, torch.full((4,), end), u, (0.1, 0.5))[:, 0]
    for row in range(4):
        count = 1 + math.floor(float(u[row, 1]) * 3)
        length = (0.1 + 0.4 * float(u[row, 0])) / count
        starts = [float(v) * (1 - length) for v in u[row, 2 : 2 + count]]
        edges = [edge for start in starts for edge in (start, start + length)]
        for step in range(steps):
            time = (step + 0.5) / (end * steps)
            if min(abs(time - edge) for edge in edges) > 1e-5:
                assert bool(found[row, step]) == any(start <= time < start + length for start in starts)


@given(seeds, st.sampled_from([(0.15, 3.0), (0.5, 2.0), (0.75, 4.0), (0.6, 9.0)]))
def test_geometric_spans_are_the_chain_step_by_step(seed: int, shape: tuple[float, float]) -> None:
    ratio, mean = shape
    u, start = uniform(seed, 4, 30), uniform(seed + 1, 4, 1)
    ends = 1 / mean
    begins = ends * ratio / (1 - ratio)
    found = geometric_spans(u, start, ratio, mean)
    for row in range(4):
        hidden = float(start[row]) < ratio
        for step, one in enumerate(u[row].tolist()):
            hidden = one < 1 - ends if hidden else one < begins
            assert bool(found[row, step]) == hidden


def test_geometric_spans_have_their_ratio_and_length() -> None:
    found = geometric_spans(uniform(0, 400, 500), uniform(1, 400, 1), 0.3, 4.0)
    assert float(found.double().mean()) == pytest.approx(0.3, abs=0.02)
    begun = (found[:, 1:] & ~found[:, :-1]).sum() + found[:, 0].sum()
    assert float(found.sum() / begun) == pytest.approx(4.0, abs=0.3)


@given(seeds, st.integers(1, 40), st.floats(0.01, 1.0))
def test_two_crops_overlap_in_a_stretch_between_them(seed: int, steps: int, least: float) -> None:
    end = torch.tensor([1.0, 0.5, 1.0])
    first, second = (~outside[:, 0] for outside in two_crops(steps, end, uniform(seed, 3, 4), least))
    for row in range(3):
        a, b = (crop[row].nonzero().flatten().tolist() for crop in (first, second))
        assert a == list(range(a[0], a[-1] + 1))
        assert b == list(range(b[0], b[-1] + 1))
        assert a[0] <= b[0] <= a[-1] <= b[-1] < math.ceil(end[row] * steps)
        assert a[-1] - b[0] + 1 >= math.floor(least * float(end[row]) * steps)
