"""Streams cut into windows as they come: equal to the windows of whole recordings, from a memory that does not grow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.recording import Recording, Track
from kinshot.datasets.stream_lines import BadLine, Line, Modality
from kinshot.datasets.stream_track import LATE, MOVED, REPEATED
from kinshot.datasets.stream_windows import Began, Short, StreamCut, StreamWindows, Window
from kinshot.datasets.windows import Cut, WindowSource

RATES = {"acc": 50.0, "air": 10.0}
BOTH = {"acc": Modality(3, 50.0), "air": Modality(1, 10.0)}
ACC = {"acc": BOTH["acc"]}


def values(steps: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, channels)).astype(np.float32)


def every_step(tracks: dict[str, np.ndarray], *, start: float = 0.0, jitter: float = 0.0, timed: bool = True) -> list[Line]:
    """One line to a step of a modality, in the order of their times."""
    random = np.random.default_rng(1)
    found = []
    for name, rows in tracks.items():
        for step, row in enumerate(rows):
            off = 0 if step == 0 else random.uniform(-jitter, jitter)
            found.append((start + (step + off) / RATES[name], name, row[None]))
    found.sort(key=lambda one: one[0])
    return [Line(number, time if timed else None, None, {name: row}) for number, (time, name, row) in enumerate(found, 1)]


def run(windows: StreamWindows, lines: list[Line]) -> list[Any]:
    found = [one for line in lines for one in windows.add(line)]
    return [*found, *windows.close()]


def whole(tracks: dict[str, np.ndarray], cut: StreamCut) -> WindowSource:
    recording = Recording("one", {name: Track(rows, RATES[name]) for name, rows in tracks.items()})
    short = "pad" if cut.end == "pad" else "leave out"
    return WindowSource([recording], Cut(cut.seconds, cut.step, "none", measured=1e-9, short=short))


def check_equal(found: list[Any], source: WindowSource, start: float = 0.0) -> None:
    assert all(isinstance(one, Window) for one in found)
    assert [one.start - start for one in found] == pytest.approx(source.clock[0].tolist(), abs=1e-6)
    loaded = source.load(np.arange(len(source)), list(source.fields))
    for name, spec in source.fields.items():
        expected = (loaded[name] if isinstance(loaded, dict) else loaded).numpy()
        for row, window in enumerate(found):
            rows = window.steps[name][: spec.shape[1]]
            rows = np.concatenate([rows, np.full((spec.shape[1] - len(rows), rows.shape[1]), np.nan, np.float32)])
            np.testing.assert_array_equal(rows.T, expected[row])


@settings(max_examples=25, deadline=None)
@given(
    length=st.floats(2.6, 9.0),
    seconds=st.sampled_from([1.0, 1.28, 2.56]),
    step=st.sampled_from([0.5, 1.28, 3.0]),
    start=st.sampled_from([0.0, 12.34, 1.7e9]),
    jitter=st.sampled_from([0.0, 0.3]),
    timed=st.booleans(),
)
def test_steps_of_several_rates_become_the_windows_of_the_whole_recording(
    length: float, seconds: float, step: float, start: float, jitter: float, timed: bool
) -> None:
    tracks = {"acc": values(int(length * 50)), "air": values(int(length * 10), 1)}
    tracks["acc"][20:31, 1] = np.nan
    tracks["air"][5:9] = np.nan
    cut = StreamCut(seconds, step, wait=0.1, gap=2.56)
    windows = StreamWindows(BOTH, cut)
    found = run(windows, every_step(tracks, start=start, jitter=jitter, timed=timed))
    check_equal(found, whole(tracks, cut), start if timed else 0.0)
    assert not +windows.counts
    assert windows.left == pytest.approx(max(length_of(tracks) - found[-1].end + (start if timed else 0.0), 0.0), abs=1e-4)


def length_of(tracks: dict[str, np.ndarray]) -> float:
    return max(len(rows) / RATES[name] for name, rows in tracks.items())


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12), timed=st.booleans(), apart=st.booleans())
def test_chunks_of_any_size_are_the_same_steps(sizes: list[int], timed: bool, apart: bool) -> None:
    """Chunks of a fifth of a second and its multiples, both modalities in a line or each in its own."""
    total = 5 * sum(sizes)
    tracks = {"acc": values(2 * total), "air": values(2 * total // 5, 1)}
    lines: list[Line] = []
    at = 0
    for size in sizes:
        chunk = {"acc": tracks["acc"][10 * at : 10 * (at + size)], "air": tracks["air"][2 * at : 2 * (at + size)]}
        for part in [{name: rows} for name, rows in chunk.items()] if apart else [chunk]:
            lines.append(Line(len(lines) + 1, at / 5 if timed else None, None, part))
        at += size
    cut = StreamCut(0.8, 0.4, wait=0.1, gap=2.56)
    windows = StreamWindows(BOTH, cut)
    found = run(windows, lines)
    if length_of(tracks) < 0.8:
        assert [type(one) for one in found] == [Short]
    else:
        check_equal(found, whole(tracks, cut))
    assert not +windows.counts


def test_a_window_is_given_out_with_the_step_that_completes_it() -> None:
    tracks = {"acc": values(100), "air": values(20, 1)}
    windows = StreamWindows(BOTH, StreamCut(1.0, 0.5, wait=0.1))
    ends = [(line.time, one.end) for line in every_step(tracks) for one in windows.add(line)]
    assert [end for _, end in ends] == pytest.approx([1.0, 1.5, 2.0])
    assert [time for time, _ in ends] == pytest.approx([0.98, 1.48, 1.98])


def test_a_missing_modality_is_waited_for_no_longer_than_asked() -> None:
    for wait in (0.0, 0.1, 0.5):
        windows = StreamWindows(BOTH, StreamCut(1.0, 1.0, wait=wait))
        (first, *_) = [(line.time, one) for line in every_step({"acc": values(200)}) for one in windows.add(line)]
        assert first[0] == pytest.approx(1.0 + wait)
        assert first[1].steps["air"].shape == (0, 1)
        assert first[1].steps["acc"].shape == (50, 3)


def test_memory_is_a_window_of_each_modality_however_long_the_stream() -> None:
    windows = StreamWindows(BOTH, StreamCut(1.0, 0.5, wait=0.2))
    row, air, most, count = np.ones((1, 3), np.float32), np.ones((1, 1), np.float32), {"acc": 0, "air": 0}, 0
    for step in range(20_000):
        silent = 8_000 < step < 12_000  # the barometer is gone for a while
        steps = {"acc": row, **({"air": air} if step % 5 == 0 and not silent else {})}
        count += sum(isinstance(one, Window) for one in windows.add(Line(step + 1, 1.7e9 + step / 50, None, steps)))
        most = {name: max(most[name], held) for name, held in windows.held.items()}
    assert count == 799
    assert most["acc"] <= 50 * 1.2 + 1
    assert most["air"] <= 10 * 1.2 + 1
    assert all(len(track._parts) <= track.held for track in windows.tracks.values())
    assert all(len(track._pace) <= 256 for track in windows.tracks.values())


def test_one_line_that_says_much_is_let_go_again() -> None:
    windows = StreamWindows(ACC, StreamCut(1.0, 1.0))
    assert len(list(windows.add(Line(1, 0.0, None, {"acc": values(50_000)})))) == 1000
    assert windows.held == {"acc": 0}


def test_gaps_are_nan_up_to_the_limit_and_begin_another_stream_beyond() -> None:
    lines = every_step({"acc": values(100)})
    hole = [line for line in lines if not 30 <= line.number <= 60]
    (window, _) = run(StreamWindows(ACC, StreamCut(1.0, 1.0, gap=1.0)), hole)
    assert np.isnan(window.steps["acc"]).all(axis=1).tolist() == [False] * 29 + [True] * 21
    wide = [*lines[:60], *(Line(line.number, line.time + 1.5, None, line.steps) for line in lines[60:])]
    first, began, short = run(StreamWindows(ACC, StreamCut(1.0, 1.0, gap=1.0)), wide)
    assert isinstance(first, Window)
    assert isinstance(short, Short)
    assert (began.why, began.start) == ("nothing for 1.5 s", pytest.approx(2.7))


def test_time_that_goes_back_begins_another_stream() -> None:
    lines = every_step({"acc": values(60)})
    again = [Line(60 + line.number, line.time, None, line.steps) for line in lines]
    found = run(StreamWindows(ACC, StreamCut(1.0, 1.0, gap=2.0)), [*lines, *again])
    assert [type(one) for one in found] == [Window, Began, Window]
    assert found[1].why == "the time goes back"
    np.testing.assert_array_equal(found[0].steps["acc"], found[2].steps["acc"])
    late = Line(99, -3.0, None, {"air": values(1, 1)})  # a modality that never came before tells by the others' time
    assert any(isinstance(one, Began) for one in run(StreamWindows(BOTH, StreamCut(1.0, 1.0, gap=2.0)), [*lines, late]))


def test_another_recording_begins_another_stream_and_the_name_holds() -> None:
    def line(number: int, name: str | None) -> Line:
        return Line(number, None, name, {"acc": values(30, seed=number)})

    lines = [line(1, "a"), line(2, None), line(3, "b"), line(4, "b"), line(5, "c")]
    found = run(StreamWindows(ACC, StreamCut(1.0, 1.0)), lines)
    assert [(type(one), one.recording) for one in found] == [(Window, "a"), (Began, "b"), (Window, "b"), (Began, "c"), (Short, "c")]
    assert found[2].start == 0.0


def test_steps_in_the_wrong_place_are_counted() -> None:
    lines = every_step({"acc": values(60)})
    twice = [*lines[:10], lines[9], *lines[10:]]
    windows = StreamWindows(ACC, StreamCut(1.0, 1.0, gap=2.0))
    (window,) = run(windows, twice)
    assert +windows.counts == {REPEATED: 1}
    np.testing.assert_array_equal(window.steps["acc"], np.concatenate([line.steps["acc"] for line in lines[:50]]))
    windows = StreamWindows(BOTH, StreamCut(1.0, 1.0, wait=0.0, gap=9.0))
    run(windows, [*every_step({"acc": values(80)}), Line(81, 0.9, None, {"air": values(3, 1)})])
    assert +windows.counts == {LATE: 1}


def test_without_times_a_modality_that_fell_behind_goes_on_from_where_the_others_are() -> None:
    windows = StreamWindows(BOTH, StreamCut(1.0, 1.0, wait=0.0))
    acc = [Line(number, None, None, {"acc": values(10)}) for number in range(1, 16)]  # three seconds
    found = [one for line in acc for one in windows.add(line)]
    found += [one for line in [Line(16, None, None, {"air": np.full((10, 1), 7, np.float32)})] for one in windows.add(line)]
    found += windows.close()
    assert [np.nansum(one.steps["air"]) for one in found] == [0, 0, 70]
    assert +windows.counts == {MOVED: 1}


def test_a_line_of_time_alone_lets_windows_end() -> None:
    windows = StreamWindows(ACC, StreamCut(1.0, 1.0, gap=1.0))
    assert not [*windows.add(Line(1, 5.0)), *windows.add(Line(2, 5.0, None, {"acc": values(20)}))]
    assert not list(windows.add(Line(3, 5.9)))
    (window,) = windows.add(Line(4, 6.5))
    assert (window.start, np.isnan(window.steps["acc"]).all(axis=1).sum()) == (5.0, 30)
    assert len(list(windows.add(Line(5, 7.4)))) == 1  # the stream goes on, though nothing was measured for longer than the gap


@pytest.mark.parametrize(("end", "expected"), [("leave out", [Short]), ("pad", [Window]), ("rest", [Window])])
def test_a_recording_that_is_shorter_than_a_window(end: str, expected: list[type]) -> None:
    tracks = {"acc": values(30), "air": values(6, 1)}
    cut = StreamCut(1.0, 1.0, end=end)
    windows = StreamWindows(BOTH, cut)
    found = run(windows, every_step(tracks))
    assert [type(one) for one in found] == expected
    if end == "pad":
        check_equal(found, whole(tracks, cut))
    elif end == "rest":
        assert {name: len(rows) for name, rows in found[0].steps.items()} == {"acc": 30, "air": 6}
        assert found[0].end == pytest.approx(0.6)
    else:
        assert (found[0].start, found[0].end, windows.left) == (0.0, pytest.approx(0.6), pytest.approx(0.6))


def test_the_rest_of_a_stream_is_what_no_window_holds() -> None:
    found = run(StreamWindows(ACC, StreamCut(0.3, 0.3, end="rest")), every_step({"acc": values(40)}))
    assert [len(one.steps["acc"]) for one in found] == [15, 15, 10]
    assert not run(StreamWindows(ACC, StreamCut(0.3, 0.3, end="rest")), [])
    assert len(run(StreamWindows(ACC, StreamCut(0.4, 0.4, end="rest")), every_step({"acc": values(40)}))) == 2


@pytest.mark.parametrize(("factor", "said"), [(2.0, 25.0), (0.5, 100.0), (1.05, 47.62), (1e-3, 5e4)])
def test_times_that_say_another_rate_are_refused(factor: float, said: float) -> None:
    lines = [Line(line.number, line.time * factor, None, line.steps) for line in every_step({"acc": values(400)}, jitter=0.2)]
    with pytest.raises(DataError, match=r"line \d+, acc: the encoder takes 50 Hz, and the times of the last \d+ lines say .* Hz") as caught:
        run(StreamWindows(ACC, StreamCut(2.0, 1.0, gap=9.0)), lines)
    assert float(str(caught.value).split("lines say ")[1].split(" Hz")[0]) == pytest.approx(said, rel=0.02)


def test_a_clock_that_runs_a_little_fast_is_taken_and_gaps_do_not_count() -> None:
    lines = [Line(line.number, line.time * 0.99, None, line.steps) for line in every_step({"acc": values(900)})]
    gone = [line for line in lines if line.number % 300 > 60]
    windows = StreamWindows(ACC, StreamCut(2.0, 1.0, gap=9.0))
    assert run(windows, gone)
    assert 0 < windows.counts[REPEATED] <= 0.02 * len(gone)


def test_chunks_that_overlap_are_refused_as_another_rate() -> None:
    lines = [Line(number, number * 0.5, None, {"acc": values(50)}) for number in range(1, 6)]
    with pytest.raises(DataError, match=r"say 100 Hz: .* give each step once"):
        run(StreamWindows(ACC, StreamCut(1.0, 1.0)), lines)


def test_lines_with_and_without_times_do_not_mix() -> None:
    windows = StreamWindows(ACC, StreamCut(1.0, 1.0))
    list(windows.add(Line(1, 0.0, "a", {"acc": values(10)})))
    with pytest.raises(BadLine, match="line 2 has no time, and those before it have: give all lines of a recording a time, or none"):
        list(windows.add(Line(2, None, None, {"acc": values(10)})))
    list(windows.add(Line(3, None, "b", {"acc": values(10)})))
    with pytest.raises(BadLine, match="line 4 has a time, and those before it have none"):
        list(windows.add(Line(4, 3.0, "b", {"acc": values(10)})))
    assert windows.held == {"acc": 10}


@pytest.mark.parametrize(
    ("given", "told"),
    [((0, 1), "seconds and step above 0"), ((1, math.inf), "seconds and step"), ((1, 1, -1), "wait and gap"), ((1, 1, 0, 0, "so"), "'so'")],
)
def test_a_cut_that_is_none_is_refused(given: tuple[Any, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        StreamCut(*given)
