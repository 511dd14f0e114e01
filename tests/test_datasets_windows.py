"""Recordings cut into windows: by seconds and never across a border, with gaps, absent sensors, labels, and parts by person."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.graphs.time import time_graph
from kinshot.datasets.people import Division, part_of
from kinshot.datasets.recording import Recording, Track, runs, track_at
from kinshot.datasets.windows import Cut, WindowSource

NAN = np.float32(np.nan)


def track(first: float, count: int, rate: float, channels: int = 1, start: float = 0.0) -> Track:
    """Values that say which step they are: first, first + 1, ..., and the same plus 0.1 in the next channel."""
    values = first + np.arange(count)[:, None] + np.arange(channels) / 10
    return Track(values.astype(np.float32), rate, start)


def recording(name: str, number: int, seconds: float = 10.0, **more) -> Recording:
    tracks = {"belt": track(1000 * number, int(seconds * 20), 20, 2), "air": track(1000 * number, int(seconds * 4), 4)}
    return Recording(name, tracks, **{"subject": f"s{number // 2}", **more})


def labelled(*stretches: tuple[float, float, int]) -> dict:
    rows = np.array(stretches, dtype=float).reshape(-1, 3)
    return {"stretches": rows[:, :2], "classes": rows[:, 2].astype(np.int64)}


PLAIN = Cut(2.0, 1.0, "none")
FOUR = [recording(f"r{number}", number) for number in range(4)]


def by_loops(recordings: list[Recording], sensor: str, seconds: float, step: float) -> list[np.ndarray]:
    """Every window of a sensor, one step after the other."""
    found = []
    for one in recordings:
        begin, end = one.span
        number = 0
        while begin + number * step + seconds <= end + 1e-9:
            own, start = one.tracks[sensor], begin + number * step
            steps = []
            for at in range(math.floor(seconds * own.rate + 1e-9)):
                place = math.ceil((start - own.start) * own.rate - 1e-9) + at
                steps.append(own.values[place] if 0 <= place < len(own.values) else np.full(own.values.shape[1], NAN))
            found.append(np.stack(steps, axis=1))
            number += 1
    return found


@pytest.mark.parametrize(("seconds", "step"), [(2.0, 1.0), (2.5, 0.7), (1.1, 3.3), (10.0, 1.0)])
def test_windows_equal_a_loop_for_every_sensor_at_its_own_rate(seconds, step):
    late = Recording("late", {"belt": track(0, 130, 20, 2, 0.33), "air": track(0, 50, 4, 1, -0.1)})
    source = WindowSource([*FOUR, late], Cut(seconds, step, "none", measured=0.01))
    assert {name: spec.shape for name, spec in source.fields.items()} == {
        "air": (1, math.floor(seconds * 4)),
        "belt": (2, math.floor(seconds * 20 + 1e-9)),
    }
    for sensor in source.fields:
        expected = by_loops([*FOUR, late], sensor, seconds, step)
        found = source.load(range(len(source)), (sensor,))[sensor].numpy()
        there = source.present.get(sensor, np.ones(len(source), bool))
        assert len(found) == len(expected)
        assert np.array_equal(found[there], np.array(expected)[there], equal_nan=True)
        assert np.isnan(found[~there]).all()


def test_nothing_crosses_the_border_of_a_recording():
    source = WindowSource(FOUR, Cut(2.0, 0.3, "none"))
    belt = source.load(range(len(source)), ("belt",))["belt"].numpy()
    assert np.array_equal(belt[:, 0] // 1000, np.repeat(source.clock.recording[:, None], 40, 1))
    assert (np.diff(belt[:, 0], axis=1) == 1).all()
    # a step lies where the clock says, at most one step late
    late = belt[:, 0, 0] % 1000 / 20 - source.clock.time
    assert late.min() > -1e-4
    assert late.max() < 1 / 20


def test_every_window_knows_recording_person_and_time():
    source = WindowSource(FOUR, PLAIN)
    assert source.attribute_names["recording"] == ["r0", "r1", "r2", "r3"]
    assert source.attribute_names["subject"] == ["s0", "s1"]
    assert source.attributes["subject"].tolist() == [0] * 18 + [1] * 18
    assert source.attributes["start"].tolist() == source.clock.time.tolist() == [float(k) for k in range(9)] * 4
    assert (source.labels, source.class_names) == (None, [])
    graph = time_graph(source)
    assert graph.n == 36


def test_labels_are_of_the_majority_or_of_pure_windows():
    one = recording("r", 0, **labelled((0, 2.5, 0), (2.5, 4, 2), (5, 9, 0)))
    source = WindowSource([one], Cut(2.0, 1.0, "majority"), ["walk", "sit", "run"])
    # 0-2 walk, 1-3 walk (1.5 of 2), 2-4 run (1.5), 3-5 one second of run: no majority, 4-6 half walk, 5-7 ... 7-9 walk, 8-10 half
    assert source.clock.time.tolist() == [0, 1, 2, 5, 6, 7]
    assert [source.class_names[label] for label in source.labels] == ["walk", "walk", "run", "walk", "walk", "walk"]
    assert any("3 windows are left out, which have no class by labels=majority" in note for note in source.notes)
    assert any("no window of 1 classes is left: sit" in note for note in source.notes)
    pure = WindowSource([one], Cut(2.0, 1.0, "pure"), ["walk", "sit", "run"])
    assert pure.clock.time.tolist() == [0, 5, 6, 7]
    assert pure.class_names == ["walk"]


def test_windows_may_begin_anew_with_every_stretch():
    one = recording("r", 0, **labelled((0.5, 3.7, 0), (3.7, 5.1, 1), (6.25, 9, 1)))
    source = WindowSource([one], Cut(2.0, 1.0, "majority", "stretches"), ["walk", "sit"])
    assert source.clock.time.tolist() == [0.5, 1.5, 6.25]
    assert source.labels.tolist() == [0, 0, 1]
    assert any("stretches of recordings shorter than 2 s are left out: r (1)" in note for note in source.notes)
    padded = WindowSource([one], Cut(2.0, 1.0, "majority", "stretches", 0.1, "pad"), ["walk", "sit"])
    assert padded.clock.time.tolist() == [0.5, 1.5, 3.7, 6.25]
    short = padded.load([2], ("belt",))["belt"][0, 0]
    assert short[:28].tolist() == list(range(74, 102))  # up to 5.1 s, and not into what comes after
    assert short[28:].isnan().all()


def test_a_recording_shorter_than_a_window_is_counted():
    short = recording("short", 8, 1.5)
    source = WindowSource([*FOUR, short], PLAIN)
    assert len(source) == 36
    assert any("recordings shorter than 2 s are left out: short (1)" in note for note in source.notes)
    padded = WindowSource([*FOUR, short], Cut(2.0, 1.0, "none", short="pad"))
    assert len(padded) == 37
    assert padded.load([36], ("belt",))["belt"][0, 0].isnan().tolist() == [False] * 30 + [True] * 10
    with pytest.raises(DataError, match="no window is left: recordings shorter than 2 s are left out: short"):
        WindowSource([short], PLAIN)


def test_bursts_of_missing_values_stay_and_count_towards_presence():
    broken = recording("r", 0)
    broken.tracks["belt"].values[30:75] = NAN  # 1.5 to 3.75 s
    broken.tracks["belt"].values[100:110, 1] = NAN  # one axis alone
    source = WindowSource([broken], PLAIN)
    # windows at 1, 2 and 3 s have measured 25, 12.5 and 62.5 % of their steps
    assert source.present["belt"].tolist() == [True, False, False, True, True, True, True, True, True]
    assert source.load([1], ("belt",))["belt"].isnan().all()
    assert int(source.load([3], ("belt",))["belt"].isnan().sum()) == 2 * 15
    assert int(source.load([4], ("belt",))["belt"].isnan().sum()) == 10
    assert "2 of 9 windows lack belt" in source.notes
    broken.tracks["air"].values[4:16] = NAN
    both = WindowSource([broken], PLAIN)
    assert both.clock.time.tolist() == [0, 3, 4, 5, 6, 7, 8]
    assert any("2 windows are left out, of which no sensor measured a share of 0.5" in note for note in both.notes)


def test_sensors_of_unequal_length_and_recordings_without_one():
    ends = Recording("ends", {"belt": track(0, 90, 20, 2), "air": track(0, 40, 4)})
    alone = Recording("alone", {"air": track(0, 40, 4)})
    source = WindowSource([ends, alone], PLAIN)
    assert source.present["belt"].tolist() == [True] * 4 + [False] * 14  # belt ends at 4.5 s, a quarter into the window from 4 s
    assert source.only("belt").load(range(3)).isfinite().all()
    assert int(source.load([3], ("belt",))["belt"][0, 0].isnan().sum()) == 10
    assert source.inputs()["belt"].channels == 2
    with pytest.raises(DataError, match="belt is measured in no window: leave it out of the sensors"):
        WindowSource([Recording("r", {"belt": Track(np.full((200, 1), NAN), 20), "air": track(0, 40, 4)})], PLAIN)


def test_the_sensors_asked_for_are_taken_in_their_order():
    assert list(WindowSource(FOUR, PLAIN, sensors=("belt", "air")).fields) == ["belt", "air"]
    assert list(WindowSource(FOUR, PLAIN, sensors=("air",)).fields) == ["air"]
    for wrong in (("wrist",), ("air", "air")):
        with pytest.raises(ConfigError, match="expected sensors of air, belt, got"):
            WindowSource(FOUR, PLAIN, sensors=wrong)


def test_fingerprints_follow_values_cuts_and_rates():
    made = [
        WindowSource(FOUR, PLAIN),
        WindowSource(FOUR, Cut(2.0, 0.5, "none")),
        WindowSource(FOUR[:3], PLAIN),
        WindowSource([Recording("r0", {"belt": Track(FOUR[0].tracks["belt"].values, 20)})], PLAIN),
        WindowSource([Recording("r0", {"belt": Track(FOUR[0].tracks["belt"].values + 1, 20)})], PLAIN),
        WindowSource([Recording("r0", {"belt": Track(FOUR[0].tracks["belt"].values, 20.2)})], PLAIN),
    ]
    assert len({source.fingerprint() for source in made}) == len(made)
    assert WindowSource(FOUR, PLAIN).fingerprint() == made[0].fingerprint()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([Recording("r", {})], "r has no sensor"),
        ([Recording("r", {"belt": Track(np.zeros((5, 1)), 20)})], "expected float32"),
        ([Recording("r", {"belt": Track(np.zeros((0, 1), np.float32), 20)})], "at least one of each"),
        ([Recording("r", {"belt": Track(np.zeros((5, 1), np.float32), 0)})], "a rate in Hz above 0"),
        ([Recording("r", {"belt": Track(np.full((5, 1), np.inf, np.float32), 20)})], "r, belt: step 0, channel 0 is infinite"),
        ([recording("r", 0), recording("r", 1)], "two recordings have one name"),
        ([recording("a", 0), Recording("b", {"belt": track(0, 99, 50, 2)})], "belt has a rate of 20 Hz in a and a rate of 50 Hz in b"),
        ([recording("a", 0), Recording("b", {"belt": track(0, 99, 20, 3)})], "belt has 2 channels in a and 3 channels in b"),
        ([recording("r", 0, **labelled((0, 3, 0), (2, 4, 1)))], "the stretch from 2 s begins before the last one ends"),
        ([recording("r", 0, **labelled((3, 3, 0)))], "needs a begin before its end"),
        ([recording("r", 0, **labelled((0, 3, 5)))], "not among the 2 that have names"),
    ],
)
def test_recordings_that_cannot_be_cut_are_named(wrong, message):
    with pytest.raises(DataError, match=message):
        WindowSource(wrong, Cut(2.0, 1.0, "majority"), ["a", "b"])


def test_cuts_that_are_none_are_refused():
    for wrong in ({"seconds": 0.0}, {"step": -1.0}, {"measured": 0.0}, {"seconds": math.inf}):
        with pytest.raises(ConfigError, match="windows: "):
            Cut(**{"seconds": 2.0, "step": 1.0, **wrong})
    with pytest.raises(ConfigError, match="no step of air at 4 Hz fits"):
        WindowSource(FOUR, Cut(0.2, 1.0, "none"))


# ---- timestamps


def test_a_track_of_timestamps_keeps_its_gaps():
    times = np.delete(5 + np.arange(100) / 20, slice(40, 60))
    found, notes = track_at(times, np.arange(80, dtype=np.float32)[:, None], 20, "r.csv, belt")
    assert (found.start, found.rate, len(found.values)) == (5.0, 20, 100)
    assert found.values[:, 0].tolist()[:40] == list(range(40))
    assert np.isnan(found.values[40:60]).all()
    assert found.values[60:, 0].tolist() == list(range(40, 80))
    assert notes == ["r.csv, belt: 20 steps lie in gaps of the timestamps"]


@pytest.mark.parametrize("true", [19.8, 20.2])
def test_a_clock_a_little_off_leaves_no_gap(true):
    times = np.arange(1000) / true
    found, notes = track_at(times, times[:, None].astype(np.float32), 20, "belt")
    assert not np.isnan(found.values).any()
    assert np.abs(found.values[:, 0] - np.arange(len(found.values)) / 20).max() <= 0.51 / 20
    assert [note.split(" measurements are ")[1] for note in notes] == ["repeated" if true < 20 else "left out"]


def test_timestamps_that_cannot_be_are_named():
    values = np.zeros((4, 1), np.float32)
    for times, message in (
        ([0, 0.05, 0.15, 0.1], r"the time goes back at row 3 \(0.15 s, then 0.1 s\): sort the rows"),
        ([0, 0.05, 0.05, 0.1], "the time occurs twice at row 2"),
        ([0, 0.05, np.nan, 0.1], "row 2 has no time"),
        ([0, 0.01, 0.02, 0.03], "declared as 20 Hz, and the timestamps say 100 Hz, more than 2% off"),
        ([0, 50, 100, 150], "the timestamps say 0.02 Hz"),
    ):
        with pytest.raises(DataError, match=f"r.csv, belt: .*{message}"):
            track_at(np.array(times, dtype=float), values, 20, "r.csv, belt")
    alone, _ = track_at(np.array([3.0]), values[:1], 20, "belt")
    assert (alone.start, len(alone.values)) == (3.0, 1)


def test_labels_of_steps_become_stretches():
    stretches, classes = runs(np.array([-1, 0, 0, 1, -1, -1, 1, 1]), 10.0, 2.0)
    assert stretches.tolist() == [[10.5, 11.5], [11.5, 12.0], [13.0, 14.0]]
    assert classes.tolist() == [0, 1, 1]
    assert runs(np.array([], np.int64), 0.0, 2.0)[0].shape == (0, 2)


# ---- parts


def people(count: int, each: int = 2) -> list[Recording]:
    return [recording(f"r{n}", n, subject=f"s{n // each}") for n in range(count * each)]


def names(recordings: list[Recording], split: str, division: Division, of: str = "subject") -> set[str]:
    return {getattr(one, of) for one in part_of(recordings, split, division, "belt")[0]}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("by", ["subject", "recording"])
def test_parts_share_nobody_and_leave_nobody_out(by, seed):
    of = "subject" if by == "subject" else "name"
    parts = [names(people(10), split, Division(by, seed=seed), of) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == ([6, 2, 2] if by == "subject" else [12, 4, 4])
    assert set.union(*parts) == names(people(10), "all", Division(by), of)
    assert parts == [names(people(10)[::-1], split, Division(by, seed=seed), of) for split in ("train", "val", "test")]


def test_one_subject_is_left_out():
    alone = Division(held_out=("s3",), val=0.0)
    assert names(people(6), "test", alone) == {"s3"}
    assert names(people(6), "train", alone) == {"s0", "s1", "s2", "s4", "s5"}
    with pytest.raises(DataError, match="no subject is left for val"):
        part_of(people(6), "val", alone, "belt")
    assert "s3" not in names(people(6), "val", Division(held_out=("s3",)))
    with pytest.raises(ConfigError, match="there is no subject 's9' to hold out"):
        part_of(people(6), "test", Division(held_out=("s9",)), "belt")
    with pytest.raises(ConfigError, match="nobody is left to train on"):
        part_of(people(1), "test", Division(held_out=("s0",)), "belt")


def test_a_random_split_over_windows_is_refused_unless_forced():
    with pytest.raises(
        ConfigError, match="windows of one person, and halves of windows that overlap, on both sides: choose split_by=subject"
    ):
        Division("window")
    kept, keep = part_of(FOUR, "val", Division("window", leaky=True), "belt")
    source = WindowSource(kept, PLAIN, keep=keep)
    assert len(source) == 7  # a fifth of 36
    rest = [WindowSource(FOUR, PLAIN, keep=part_of(FOUR, split, Division("window", leaky=True), "x")[1]) for split in ("train", "test")]
    assert sum(map(len, rest)) == 29
    with pytest.raises(ConfigError, match="choose one"):
        Division("window", ("s0",), leaky=True)


def test_what_cannot_be_divided_says_so():
    with pytest.raises(DataError, match="nobody knows who was recorded in x: name its subject, or set split_by=recording"):
        part_of([recording("x", 0, subject="")], "train", Division(), "belt")
    with pytest.raises(DataError, match="2 subjects cannot be divided into train, val and test"):
        part_of(people(2), "train", Division(), "belt")
    with pytest.raises(ConfigError, match="from 0 to below 1 together"):
        Division(val=0.6, test=0.5)


def test_loaded_windows_are_fresh():
    source = WindowSource(FOUR, PLAIN)
    before = source.load([0], ("belt",))["belt"].clone()
    source.load([0], ("belt",))["belt"].fill_(7)
    assert torch.equal(source.load([0], ("belt",))["belt"], before)
    assert before.is_contiguous()
