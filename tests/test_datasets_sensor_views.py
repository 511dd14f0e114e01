"""Views of sensors: one clock for all modalities, what is missing stays missing, and something of everything is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.crops import Crops
from kinshot.datasets.views.hidden_spans import HiddenSpans
from kinshot.datasets.views.sensor import Sensor
from kinshot.datasets.views.weak_strong import WeakStrong
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.frames import FramesSpec
from kinshot.samples.rows import RowSpec
from kinshot.samples.series import SeriesSpec

NAN = math.nan
ACC = SeriesSpec(3, 64, 50.0, (1.0, 2.0, 3.0), (2.0, 1.0, 0.5))
GYRO = SeriesSpec(3, 128, 100.0, (0.0,) * 3, (3.0,) * 3)
AIR = SeriesSpec(1, 16, 12.5, (5.0,), (2.0,))
BUNDLE = BundleSpec(("acc", "gyro", "air"), (ACC, GYRO, AIR))
STILL: dict[str, Any] = {"jitter": 0.0, "scaling": 0.0}
CLOCKS: dict[str, dict[str, Any]] = {
    "flip": {"flip": 1.0},
    "time_warp": {"time_warp": 1.0, "time_warp_deviation": 0.5},
    "crop": {"crop": 0.4},
    "rate": {"rate": (0.8, 1.25)},
    "permutation": {"permutation": 1.0},
    "all": {"flip": 0.5, "time_warp": 0.5, "crop": 0.7, "rate": (0.8, 1.25), "permutation": 0.5},
}
ROWS = torch.arange(12)


def noise(spec: SeriesSpec | BundleSpec, count: int = 12, seed: int = 0) -> Tensor:
    return spec.denormalize(spec.noise(count, torch.Generator().manual_seed(seed)))


def same(found: Tensor, expected: Tensor, atol: float = 0.0) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol, equal_nan=True)


def ramps(end: float = 1.0) -> Tensor:
    """Bundles whose normalised values are the time at which they were measured, as a share of the window; nothing behind `end`."""
    parts = {}
    for name, spec in BUNDLE.modalities.items():
        time = (torch.arange(spec.shape[1]) + 0.5) / spec.shape[1]
        parts[name] = time.masked_fill(time > end, NAN).expand(12, *spec.shape)
    return BUNDLE.denormalize(BUNDLE.join(parts))


@pytest.mark.parametrize("spec", [ACC, BUNDLE])
def test_nothing_switched_on_changes_nothing(spec: SeriesSpec | BundleSpec) -> None:
    x = noise(spec).masked_fill(torch.rand(12, *spec.shape, generator=torch.Generator().manual_seed(1)) < 0.1, NAN)
    for settings in (STILL, {**STILL, "time_warp": 1e-9}, {**STILL, "permutation": 1e-9}):  # on, and never drawn
        for view in Sensor(spec, **settings)(x, ROWS, 0, 0):
            same(view, spec.normalize(x))


@pytest.mark.parametrize("changes", CLOCKS.values(), ids=CLOCKS.keys())
def test_an_instant_is_at_the_same_place_of_every_modality(changes: dict[str, Any]) -> None:
    for view in Sensor(BUNDLE, **STILL, **changes)(ramps(), ROWS, 3, 1):
        acc, gyro, air = (x[:, 0] for x in BUNDLE.split(view).values())
        # the time shown halfway through a slow step, and the mean of what fast ones show in it; a cut may fall within it
        for fast, slow in ((gyro, acc), (acc, air), (gyro, air)):
            apart = (fast.unflatten(1, (slow.shape[1], -1)).mean(2) - slow).abs()
            tolerance = 0.51 / slow.shape[1]
            assert float((apart < tolerance).double().mean() / (~apart.isnan()).double().mean()) > 0.9
        assert (acc - (torch.arange(64) + 0.5) / 64).abs().nan_to_num(1.0).amax(1).gt(0.02).sum() >= 9  # most samples were changed
        spread = (acc[1:] - acc[:1]).abs().nan_to_num(1.0).amax(1)
        assert float(spread.max()) > 0.02 or "flip" in changes  # each in its own way


@pytest.mark.parametrize("changes", CLOCKS.values(), ids=CLOCKS.keys())
def test_rates_need_not_be_multiples_of_one_another(changes: dict[str, Any]) -> None:
    fast, slow = SeriesSpec(1, 128, 50.0, (0.0,), (1.0,)), SeriesSpec(1, 25, 10.0, (0.0,), (1.0,))
    spec = BundleSpec(("fast", "slow"), (fast, slow))
    instants = {name: (torch.arange(part.length) + 0.5) / part.length for name, part in (("fast", fast), ("slow", slow))}
    samples = spec.join({name: time.expand(40, 1, -1) for name, time in instants.items()})
    (view, _) = Sensor(spec, **STILL, **changes)(samples, torch.arange(40), 0, 0)
    quick, slowly = (x[:, 0].double().numpy() for x in spec.split(view).values())
    apart = [np.abs(np.interp(instants["slow"], instants["fast"], a) - b) for a, b in zip(quick, slowly, strict=True)]
    assert np.nanmean(np.array(apart) < 1 / 25) > 0.8
    assert np.nanmedian(apart) < 0.5 / 128 + 0.01


def test_modalities_have_clocks_of_their_own_where_asked_for() -> None:
    one, own = (Sensor(BUNDLE, **STILL, crop=0.3, synchronised=both)(ramps(), ROWS, 0, 0)[0] for both in (True, False))
    (acc, gyro, _), (other, apart, _) = (BUNDLE.split(view).values() for view in (one, own))
    same(acc, other)  # the first modality's is everybody's
    assert float((gyro[:, 0, ::2] - acc[:, 0]).abs().mean()) < 0.01
    assert float((apart[:, 0, ::2] - other[:, 0]).abs().mean()) > 0.05


@pytest.mark.parametrize("changes", CLOCKS.values(), ids=CLOCKS.keys())
def test_padding_stays_at_the_end(changes: dict[str, Any]) -> None:
    for view in Sensor(BUNDLE, **STILL, **changes)(ramps(end=0.5), ROWS, 0, 0):
        for x in BUNDLE.split(view).values():
            measured = ~x[:, 0].isnan()
            assert not measured[:, x.shape[2] // 2 :].any()
            assert float(measured[:, : x.shape[2] // 2].double().mean()) > 0.85  # a fast clock leaves some of the end empty
            values = x[:, 0][measured]
            assert float(values.min()) >= 0 and float(values.max()) <= 0.5  # noqa: PT018


def test_a_burst_that_was_not_measured_moves_with_time() -> None:
    x = noise(ACC)
    x[:, 1, 10:14] = NAN
    for view in Sensor(ACC, **STILL, flip=1.0)(x, ROWS, 0, 0):
        same(view, ACC.normalize(x).flip(2))
    for view in Sensor(ACC, **STILL, permutation=1.0)(x, ROWS, 0, 0):
        assert view.isnan().sum((1, 2)).tolist() == [4] * 12
    for view in Sensor(ACC, **STILL, time_warp=1.0)(x, ROWS, 0, 0):
        assert not view[:, 0].isnan().any()
        assert 1 <= int(view[:, 1].isnan().sum(1).min()) <= int(view[:, 1].isnan().sum(1).max()) <= 10


LEVELS = {"jitter": 0.1, "scaling": 0.1, "negation": 0.5, "magnitude_warp": 1.0, "frequency_mask": 1.0, "phase_shift": 1.0}


@pytest.mark.parametrize("change", LEVELS)
def test_changes_of_values_keep_what_is_missing_where_it_is(change: str) -> None:
    x = noise(BUNDLE).masked_fill(torch.rand(12, *BUNDLE.shape, generator=torch.Generator().manual_seed(1)) < 0.1, NAN)
    x[0, : 3 * 64] = NAN
    views = Sensor(BUNDLE, **{**STILL, change: LEVELS[change]})
    clean, (one, other), (later, _) = BUNDLE.normalize(x), views(x, ROWS, 0, 0), views(x, ROWS, 0, 1)
    for view in (one, other, later):
        assert torch.equal(view.isnan(), x.isnan())
    moved = [(a - b).abs().nan_to_num().amax(1) > 1e-4 for a, b in ((one, clean), (one, other), (one, later))]
    assert all(int(rows.sum()) >= (5 if change == "negation" else 12) for rows in moved)  # every sample, view and epoch anew


def test_noise_is_in_units_of_a_channel_and_new_for_every_value() -> None:
    (view, _) = Sensor(ACC, jitter=0.3, scaling=0.0)(noise(ACC, 100), torch.arange(100), 0, 0)
    added = view - ACC.normalize(noise(ACC, 100))
    assert added.std((0, 2)).tolist() == pytest.approx([0.3] * 3, rel=0.03)
    assert np.abs(np.corrcoef(added.flatten(1)) - np.eye(100)).max() < 0.4


def test_sensors_of_a_device_turn_together_and_no_others() -> None:
    x = noise(BUNDLE)
    views = Sensor(BUNDLE, **STILL, rotation=1.0, devices=("acc+gyro",))(x, ROWS, 0, 0)
    before = BUNDLE.split(x)
    turns = []
    for view in views:
        after = BUNDLE.split(BUNDLE.denormalize(view))
        same(after["air"], before["air"], atol=1e-5)
        for name in ("acc", "gyro"):  # the matrix that takes vectors to where they are, in units of the data
            same(after[name].norm(dim=1), before[name].norm(dim=1), atol=1e-4)
            turns.append(after[name] @ torch.linalg.pinv(before[name]))
    same(turns[0], turns[1], atol=1e-3)
    same(turns[2], turns[3], atol=1e-3)
    assert float((turns[0] - turns[2]).abs().amax((1, 2)).min()) > 0.01
    assert float((turns[0][1:] - turns[0][:1]).abs().amax((1, 2)).min()) > 0.01
    (alone, _) = Sensor(BUNDLE, **STILL, rotation=1.0, devices=("acc",))(x, ROWS, 0, 0)
    same(BUNDLE.split(alone)["gyro"], BUNDLE.split(BUNDLE.normalize(x))["gyro"], atol=1e-6)


def test_a_sensor_that_lacks_an_axis_is_not_turned_away() -> None:
    x = noise(ACC)
    x[0, 2], x[1, 0, 5] = NAN, NAN
    (view, _) = Sensor(ACC, **STILL, rotation=1.0)(x, ROWS, 0, 0)
    same(view[0], ACC.normalize(x)[0])
    assert view[1].isnan().nonzero().tolist() == [[0, 5], [1, 5], [2, 5]]


def test_axes_of_a_device_change_places_alike() -> None:
    x = torch.arange(3.0).view(3, 1)
    samples = BUNDLE.denormalize(BUNDLE.join({"acc": x.expand(12, 3, 64), "gyro": x.expand(12, 3, 128), "air": torch.zeros(12, 1, 16)}))
    (view, _) = Sensor(BUNDLE, **STILL, channel_shuffle=1.0, devices=("acc+gyro",))(samples, ROWS, 0, 0)
    acc, gyro, _ = BUNDLE.split(view).values()
    same(acc[:, :, 0], gyro[:, :, 0], atol=1e-5)
    assert len({tuple(row) for row in acc[:, :, 0].round().tolist()}) >= 4


def test_what_is_hidden_is_not_measured_and_something_is_left() -> None:
    x = noise(BUNDLE, 200)
    x[:50, : 3 * 64] = NAN
    rows, clean = torch.arange(200), BUNDLE.normalize(x)
    there = BUNDLE.present(x)
    for settings in ({"channel_dropout": 1.0}, {"time_mask": 1.0, "time_share": (0.9, 1.0)}):
        for view in Sensor(BUNDLE, **STILL, **settings)(x, rows, 0, 0):  # type: ignore[arg-type]
            assert {name: seen.tolist() for name, seen in BUNDLE.present(view).items()} == {n: s.tolist() for n, s in there.items()}
            assert torch.equal(torch.where(view.isnan(), NAN, clean).nan_to_num(), view.nan_to_num())
    (view, _) = Sensor(BUNDLE, **STILL, modality_dropout=0.6)(x, rows, 0, 0)
    seen = torch.stack(list(BUNDLE.present(view).values()), 1)
    assert seen.any(1).all()
    assert not (seen & ~torch.stack(list(there.values()), 1)).any()
    assert seen[50:].sum(1).unique().tolist() == [1, 2, 3]
    (view, _) = Sensor(ACC, **STILL, time_mask=1.0)(noise(ACC), ROWS, 0, 0)
    assert torch.equal(view.isnan().all(1), view.isnan().any(1))
    assert 0.03 < float(view.isnan().double().mean()) < 0.3


def test_switching_a_change_on_leaves_the_draws_of_others_as_they_were() -> None:
    x = noise(ACC)
    for more in ({"permutation": 1e-9}, {"time_mask": 1e-9}, {"channel_shuffle": 1e-9}):
        for one, other in zip(Sensor(ACC)(x, ROWS, 0, 0), Sensor(ACC, **more)(x, ROWS, 0, 0), strict=True):  # type: ignore[arg-type]
            same(one, other)


@dataclass(frozen=True)
class Readings(RowSpec):
    """Numbers that a sample may lack."""

    absent: ClassVar[float] = NAN


def test_frames_move_with_the_clock_of_the_sensors_beside_them() -> None:
    camera = FramesSpec(8, 2, 3, 2, 6.25, (0.0,) * 2, (1.0,) * 2)
    spec = BundleSpec(("acc", "camera"), (ACC, camera))
    shown = ((torch.arange(8) + 0.5) / 8).view(1, 1, 8, 1, 1).expand(12, *camera.shape).clone()
    shown[0, :, 6:], shown[1] = NAN, NAN
    acc = BUNDLE.split(BUNDLE.normalize(ramps()))["acc"].clone()
    acc[0, :, 48:] = NAN
    x = spec.denormalize(spec.join({"acc": acc, "camera": shown}))
    for changes in (*CLOCKS.values(), {"time_mask": 1.0, "time_share": (0.4, 0.6)}):
        for view in Sensor(spec, **STILL, **changes)(x, ROWS, 0, 0):
            found = spec.split(view)
            frames = found["camera"][:, 0, :, 0, 0]
            same(found["camera"], frames[:, None, :, None, None].expand(12, *camera.shape))  # whole frames, no mean of two
            assert set(frames[~frames.isnan()].tolist()) <= set(shown[2, 0, :, 0, 0].tolist())
            assert frames[1].isnan().all()
            assert not frames[2:].isnan().all(1).any()
            apart = (found["acc"][:, 0].unflatten(1, (8, 8)).mean(2) - frames).abs()
            assert float((apart < 1.01 / 16).double().sum() / (~apart.isnan()).double().sum()) > 0.85
    assert frames[2:].isnan().any(1).all()  # those that the last change hides
    (weak, strong) = WeakStrong(spec, jitter=0.0)(x, ROWS, 0, 0)
    same(spec.split(weak)["camera"], shown)
    same(spec.split(strong)["camera"][2:, 0, :, 0, 0], spec.split(strong)["acc"][2:, 0].unflatten(1, (8, 8)).mean(2), atol=1e-5)
    for name in ("crops", "hidden_spans"):
        for view in VIEWS.build(name, spec)(x, ROWS, 0, 0):
            frames = spec.split(view)["camera"]
            assert torch.equal(frames.isnan().flatten(3).all(3), frames.isnan().flatten(3).any(3))
            assert torch.equal(torch.where(frames.isnan(), NAN, shown).nan_to_num(), frames.nan_to_num())
        assert int(frames[2:].isnan().sum()) > 0


def test_modalities_that_have_no_time_are_left_as_they_are_or_hidden() -> None:
    rows = Readings(5, (1.0,) * 5, (2.0,) * 5)
    spec = BundleSpec(("rows", "acc"), (rows, ACC))
    x = spec.join({"rows": rows.denormalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0))), "acc": noise(ACC)})
    clean = spec.split(spec.normalize(x))
    for name in ("sensor", "weak_strong", "crops", "hidden_spans"):
        for view in VIEWS.build(name, spec, settings={"flip": 1.0} if name == "sensor" else {})(x, ROWS, 0, 0):
            found = spec.split(view)
            same(found["rows"], clean["rows"])
            assert not torch.equal(found["acc"], clean["acc"])
    for name, settings in (("sensor", {"modality_dropout": 0.6}), ("hidden_spans", {"modality": 0.6})):
        (view, *_) = VIEWS.build(name, spec, settings=settings)(x, ROWS, 0, 0)
        present = spec.present(view)
        assert not present["rows"].all()
        assert (present["rows"] | present["acc"]).all()
    with pytest.raises(ConfigError, match="sensor alters what is measured over time, and the samples are bundles of rows"):
        Sensor(BundleSpec(("rows",), (rows,)))


# ---- TS-TCC's pair


def test_the_weak_view_scales_channels_and_the_strong_one_permutes_steps() -> None:
    x = noise(ACC)
    x[:, :, 20:23], x[3, 0] = NAN, NAN
    clean, (weak, strong) = ACC.normalize(x), WeakStrong(ACC, jitter=0.0)(x, ROWS, 0, 0)
    factors = weak / clean
    same(factors.nanmean(2, keepdim=True).expand_as(factors).masked_fill(clean.isnan(), NAN), factors, atol=2e-3)
    assert factors.nanmean(2).nanmean().item() == pytest.approx(2.0, abs=0.6)
    same(strong.nan_to_num(9.0).sort(2).values, clean.nan_to_num(9.0).sort(2).values)
    assert int((strong.nan_to_num(9.0) != clean.nan_to_num(9.0)).flatten(1).any(1).sum()) >= 9
    shaken = WeakStrong(ACC, segments=1)(noise(ACC), ROWS, 0, 0)[1] - ACC.normalize(noise(ACC))
    assert shaken.std().item() == pytest.approx(0.8, rel=0.1)


def test_constant_channels_stay_apart_in_the_strong_view() -> None:
    """Public code of TS-TCC makes every channel the first one."""
    levels = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1)
    (_, strong) = WeakStrong(ACC, jitter=0.0)(ACC.denormalize(levels.expand(12, 3, 64)), ROWS, 0, 0)
    same(strong, levels.expand(12, 3, 64), atol=1e-5)
    (_, strong) = WeakStrong(BUNDLE, jitter=0.0)(ramps(), ROWS, 0, 0)
    acc, gyro, air = (x[:, 0] for x in BUNDLE.split(strong).values())
    same(acc.unflatten(1, (16, 4)).mean(2), air, atol=1e-5)
    same(gyro.unflatten(1, (64, 2)).mean(2), acc, atol=1e-5)


# ---- TS2Vec's pair


@pytest.mark.parametrize("spec", [ACC, BUNDLE])
def test_crops_stay_where_they_were_and_overlap(spec: SeriesSpec | BundleSpec) -> None:
    x = noise(spec) if spec is ACC else ramps(end=0.75)
    clean, (first, second) = spec.normalize(x), Crops(spec, least=0.2)(x, ROWS, 0, 0)
    for view in (first, second):
        assert torch.equal(torch.where(view.isnan(), NAN, clean).nan_to_num(), view.nan_to_num())
    both = ~first.isnan() & ~second.isnan()
    parts = BUNDLE.split(both) if spec is BUNDLE else {"acc": both}
    for name, part in parts.items():
        end = 1.0 if spec is ACC else 0.75
        assert float(part.double().mean((1, 2)).min()) >= 0.2 * end - 1 / part.shape[2], name
    assert len({tuple(row) for row in both.flatten(1).tolist()}) == 12  # every sample its own
    assert not torch.equal(first.isnan(), second.isnan())


def test_crops_of_all_modalities_are_of_the_same_instants() -> None:
    (first, second) = Crops(BUNDLE)(ramps(), ROWS, 0, 0)
    for view in (first, second):
        edges = [(x[:, 0].nan_to_num(2.0).amin(1), x[:, 0].nan_to_num(-1.0).amax(1)) for x in BUNDLE.split(view).values()]
        for low, high in edges[1:]:
            assert float((low - edges[0][0]).abs().max()) <= 1 / 16
            assert float((high - edges[0][1]).abs().max()) <= 1 / 16


# ---- hidden spans


@pytest.mark.parametrize("channels", ["each", "all"])
def test_hidden_spans_leave_the_rest_as_it_was(channels: Any) -> None:
    x, rows = noise(ACC, 100), torch.arange(100)
    (view,) = HiddenSpans(ACC, channels=channels, ratio=0.3)(x, rows, 0, 0)
    same(view[~view.isnan()], ACC.normalize(x)[~view.isnan()])
    assert float(view.isnan().double().mean()) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(view.isnan().all(1), view.isnan().any(1)) == (channels == "all")


def test_a_hidden_modality_is_one_that_a_sample_has_beside_another() -> None:
    x, rows = noise(BUNDLE, 300), torch.arange(300)
    x[:100, : 3 * 64] = NAN
    x[:50, 3 * 64 + 3 * 128 :] = NAN
    (view,) = HiddenSpans(BUNDLE, modality=0.5)(x, rows, 0, 0)
    before, after = (torch.stack(list(BUNDLE.present(one).values()), 1) for one in (x, view))
    gone = (before & ~after).sum(1)
    assert gone[:50].max() == 0
    assert gone[50:].max() == 1
    assert float(gone[50:].double().mean()) == pytest.approx(0.5, abs=0.1)
    assert (before & ~after)[100:].any(0).all()  # any of them
    assert not (after & ~before).any()


# ---- borders


@pytest.mark.parametrize(
    ("name", "spec", "settings", "message"),
    [
        ("sensor", ACC, {"flip": 1.5}, "flip is a probability between 0 and 1, got 1.5"),
        ("sensor", ACC, {"rate": (1.2, 0.8)}, r"rate needs 0 < slowest <= fastest, got \(1.2, 0.8\)"),
        ("sensor", ACC, {"segments": 1}, "segments must be at least 2, got 1"),
        ("sensor", ACC, {"modality_dropout": 0.5}, "the samples are series: set it to 0"),
        ("sensor", AIR, {"rotation": 0.5}, "only sensors of three axes turn together, and this series has 1"),
        ("sensor", BUNDLE, {"rotation": 0.5}, 'none is named: say which modalities one has, as devices='),
        ("sensor", BUNDLE, {"devices": ("acc+gyr",)}, "no series 'gyr' among several: did you mean 'gyro'"),
        ("sensor", BUNDLE, {"devices": ("acc", "acc+gyro")}, "acc is on acc and on acc.gyro: name each modality once"),
        ("sensor", BUNDLE, {"devices": ("acc+air",)}, "only sensors of three axes turn together, and air has 1"),
        ("sensor", RowSpec(4, (0.0,) * 4, (1.0,) * 4), {}, "sensor takes series or bundle, and the samples are features"),
        ("weak_strong", ACC, {"segments": 0}, "segments at least 1, got 1.1, 0.8 and 0"),
        ("crops", ACC, {"least": 0.0}, "least is a share of the window, above 0 and at most 1, got 0.0"),
        ("hidden_spans", ACC, {"ratio": 0.9}, "span must be at least 10 steps where 0.9 of them are hidden, got 3.0"),
        ("hidden_spans", ACC, {"ratio": 1.0}, "ratio is a share above 0 and below 1, got 1.0"),
        ("hidden_spans", ACC, {"modality": 0.2}, "the samples are series: set it to 0"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(name: str, spec: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VIEWS.build(name, spec, settings=settings)


@pytest.mark.parametrize("name", ["sensor", "weak_strong", "crops", "hidden_spans"])
def test_windows_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} was made for series of 3 channels and 64 steps at 50 Hz, got torch.float32"):
        VIEWS.build(name, ACC)(noise(GYRO), ROWS, 0, 0)
