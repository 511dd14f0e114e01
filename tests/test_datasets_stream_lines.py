"""What lines of a stream may say, and how each other line is refused, by its number."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.stream_lines import LONGEST, BadLine, Layout, Line, Modality, Reader

BOTH = {"acc": Modality(3, 50.0), "air": Modality(1, 10.0)}
ONE = {"series": Modality(3, 50.0)}
EVEN = {"acc": Modality(3, 50.0), "gyro": Modality(1, 50.0)}
NAN = float("nan")


def read(text: str | bytes, modalities: dict[str, Modality] = BOTH, **more: Any) -> list[Line]:
    raw = text.encode() if isinstance(text, str) else text
    return list(Reader(io.BytesIO(raw), modalities, alone=modalities is ONE, **more))


def steps(line: Line, name: str) -> list[list[float]]:
    found = line.steps[name]
    assert found.dtype == np.float32
    return [[round(float(value), 4) for value in row] for row in found]


def test_a_step_a_chunk_and_what_was_not_measured() -> None:
    lines = read(
        '{"t": 12.34, "acc": [0.1, null, NaN]}\n\n{"acc": [[1, 2, 3], null, [4, null, 6]], "air": [[7], [8]]}\r\n'
        '{"air": 5, "acc": null}\n{"air": [null], "recording": "a"}\n{"t": 3}'
    )
    assert [line.number for line in lines] == [1, 3, 4, 5, 6]
    assert [line.time for line in lines] == [12.34, None, None, None, 3.0]
    assert [line.recording for line in lines] == [None, None, None, "a", None]
    assert [set(line.steps) for line in lines] == [{"acc"}, {"acc", "air"}, {"air"}, {"air"}, set()]
    np.testing.assert_array_equal(lines[0].steps["acc"], np.array([[0.1, NAN, NAN]], np.float32))
    np.testing.assert_array_equal(lines[1].steps["acc"], np.array([[1, 2, 3], [NAN] * 3, [4, NAN, 6]], np.float32))
    assert steps(lines[1], "air") == [[7], [8]]
    assert steps(lines[2], "air") == [[5]]


def test_an_encoder_of_one_series_takes_any_one_name_or_none() -> None:
    lines = read("[1, 2, 3]\n[[1, 2, 3], [4, 5, 6]]\n", ONE)
    assert [steps(line, "series") for line in lines] == [[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]]
    lines = read('{"t": 1, "wrist": [1, 2, 3]}\n[4, 5, 6]', ONE, form="json")
    assert [steps(line, "series") for line in lines] == [[[1, 2, 3]], [[4, 5, 6]]]
    with pytest.raises(BadLine, match="line 2: the encoder takes one series, got 'wrist' and 'ankle': leave one of them out"):
        read('{"wrist": [1, 2, 3]}\n{"ankle": [1, 2, 3]}', ONE)  # a line that is whole needs no end


def test_a_table_of_one_rate_and_of_several() -> None:
    lines = read("acc.x,acc.y,acc.z,gyro\n1,2,3,4\n1,,nan,\n", EVEN)
    assert [line.number for line in lines] == [2, 3]
    assert all(line.time is None for line in lines)
    np.testing.assert_array_equal(lines[1].steps["acc"], np.array([[1, NAN, NAN]], np.float32))
    np.testing.assert_array_equal(lines[1].steps["gyro"], np.array([[NAN]], np.float32))
    lines = read("recording\tt\tair.hPa\tacc.x\tacc.y\tacc.z\na\t0.0\t7\t1\t2\t3\n\t0.02\t\t1\t2\t3\n\t0.04\t\t\t\t\n")
    assert [(line.time, line.recording, sorted(line.steps)) for line in lines] == [
        (0.0, "a", ["acc", "air"]), (0.02, None, ["acc"]), (0.04, None, [])
    ]  # fmt: skip
    lines = read("\ufefft,x,y,z\n0.5,1,2,3\n", ONE)
    assert (lines[0].time, steps(lines[0], "series")) == (0.5, [[1, 2, 3]])


def test_a_table_has_the_channels_of_some_modalities() -> None:
    (line,) = read('"acc.b","acc.a","acc.c"\n1,2,3\n')
    assert steps(line, "acc") == [[1, 2, 3]]  # the order of the columns is that of the channels, whatever they are called


BAD = {
    '{"acc": [1, 2, 3}': r"is no JSON \(.*\): write one object to a line",
    '{"acc": [1, 2, 3], "acc": [1, 2, 3]}': r"is no JSON \(a name occurs twice\)",
    "[" * 100_000: "is no JSON",
    "3": r'expected an object, \{"t": 0.0, "acc": \[0.0, 0.0, 0.0\]\}, got 3',
    "[1, 2, 3]": r"expected an object, .* got \[1, 2, 3\]: name what each number is",
    "{}": "says nothing: expected .*; leave it out",
    '{"acc": null}': "says nothing",
    '{"ac": [1, 2, 3]}': "the encoder knows no modality 'ac': did you mean 'acc'",
    '{"acc": [1, 2]}': "acc: one step has 2 values, the encoder takes 3 to a step",
    '{"acc": 1}': "acc: one step has 1 values",
    '{"acc": [[1, 2, 3], [1, 2]]}': r"acc: step 2 has 2 values, .* and several steps as \[\[...\], \[...\]\]",
    '{"acc": [[[1, 2, 3]]]}': "step 1 has 1 values",
    '{"air": [1, 2]}': "air: one step has 2 values, the encoder takes 1",
    '{"acc": []}': "acc is an empty list: leave it out, or write null",
    '{"acc": [[]]}': "step 1 has 0 values",
    '{"acc": [1, "2", 3]}': 'acc holds "2", no number: correct it, or write null',
    '{"acc": [1, true, 3]}': "acc holds true, no number",
    '{"acc": {"x": 1}}': "one step has 1 values",
    '{"air": {"x": 1}}': r'air holds \{"x": 1\}, no number',
    '{"acc": [1, Infinity, 3]}': "acc has a value that is infinite: write null",
    '{"acc": [1, 1e39, 3]}': "acc has a value that is infinite",
    '{"acc": [1, 1%s, 3]}' % ("0" * 400): "acc has a value that is infinite",
    '{"t": null, "acc": [1, 2, 3]}': "t must be a number of seconds, got null",
    '{"t": "1", "acc": [1, 2, 3]}': 't must be a number of seconds, got "1"',
    '{"t": NaN, "acc": [1, 2, 3]}': "t must be a number of seconds, got NaN",
    '{"t": [0, 1], "acc": [1, 2, 3]}': r"t must be a number of seconds, got \[0, 1\]",
    '{"t": true, "acc": [1, 2, 3]}': "t must be a number of seconds, got true",
    '{"t": 1700000000000, "acc": [1, 2, 3]}': "t is 1.7e.12 s, which is no time: bring milliseconds",
    '{"recording": 3, "acc": [1, 2, 3]}': "recording must be a text, got 3",
    '{"recording": "", "acc": [1, 2, 3]}': 'recording must be a text, got ""',
}


@pytest.mark.parametrize("text", BAD, ids=[text[:30] for text in BAD])
def test_every_other_line_is_refused_by_its_number_or_left_out(text: str) -> None:
    good = '{"air": 1}'
    with pytest.raises(BadLine, match=rf"^line 2(:|,)? .*{BAD[text]}"):
        read(f"{good}\n{text}\n{good}\n")
    told: list[BadLine] = []
    assert [line.number for line in read(f"{good}\n{text}\n{good}\n", bad=told.append)] == [1, 3]
    assert len(told) == 1


TABLES = {
    "t,acc.x,acc.y,acc.z\n1,2,3\n": "line 2 has 3 cells, the header 4: give one to a column",
    "t,acc.x,acc.y,acc.z\n1,2,x,4\n": "line 2: acc.y is 'x', no number: correct it, or empty the cell",
    "t,acc.x,acc.y,acc.z\n,2,3,4\n": "line 2: t must be a number of seconds, got null",
    'air\n"1\n': r"line 2 is no row of a table \(.*\): close its quotes",
}
HEADERS = {
    "t,acc.x,acc.y\n": "line 1 is a header of t, acc.x, acc.y .*: 2 columns are of acc, and the encoder takes 3",
    "t,acc.x,acc.x,acc.z\n": "which has 'acc.x' twice",
    "t,ac.x\n": "the encoder knows no modality 'ac': did you mean 'acc'",
    "hello\n": r"line 1 is a header of hello \(no JSON, which begins with \{ or \[\), and the encoder knows no modality 'hello'",
    "t\n": "no column is of a modality",
    "acc.x,acc.y,acc.z,air\n1,2,3,4\n": r"of several rates \(acc 50 Hz, air 10 Hz\) a table needs a column t of times: add it",
}


@pytest.mark.parametrize("text", TABLES)
def test_a_row_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadLine, match=TABLES[text]):
        read(text)


@pytest.mark.parametrize("text", HEADERS)
def test_a_header_that_does_not_fit_is_refused_whatever_is_skipped(text: str) -> None:
    with pytest.raises(DataError, match=HEADERS[text]):
        read(text, bad=lambda error: None)


def test_columns_of_one_series_are_its_channels() -> None:
    with pytest.raises(DataError, match="2 columns are of series, and the encoder takes 3 for its channels"):
        read("t,x,y\n", ONE)


def test_a_last_line_that_the_end_cut_off_is_left_out_and_told() -> None:
    reader = Reader(io.BytesIO(b'{"air": 1}\n{"air": [1'), BOTH)
    assert [line.number for line in reader] == [1]
    assert reader.unfinished.startswith("line 2 is no JSON")
    assert reader.count == 2
    reader = Reader(io.BytesIO(b'{"air": 1}\n{"air": 2}'), BOTH)
    assert len(list(reader)) == 2
    assert not reader.unfinished


def test_bytes_that_are_no_text_and_lines_without_end() -> None:
    with pytest.raises(BadLine, match="line 2 is no text in UTF-8"):
        read(b'{"air": 1}\n\xff\xfe\n')
    endless = Reader(io.BytesIO(b'{"air": 1}\n' + b" " * (LONGEST + 1)), BOTH, bad=lambda error: None)
    with pytest.raises(DataError, match="line 2 is longer than 16 MiB: write fewer steps to a line"):
        list(endless)


def test_a_line_is_given_before_the_next_is_read() -> None:
    class Pipe(io.RawIOBase):
        """Says its lines one by one and fails where somebody reads ahead."""

        def __init__(self) -> None:
            self.said = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            self.said += 1
            return (json.dumps({"air": self.said}) + "\n").encode()

    pipe = Pipe()
    for number, line in enumerate(Reader(pipe, BOTH), 1):  # type: ignore[arg-type]  # it reads lines
        assert (line.number, pipe.said) == (number, number)
        if number == 5:
            break


def test_a_modality_called_like_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="a modality is called t, which means something else in lines: rename it"):
        Reader(io.BytesIO(), {"t": Modality(1, 1.0)})


def test_a_schema_says_whose_columns_are_whose() -> None:
    layout = Layout({"air": ("hPa",), "acc": ("ax", "ay", "az"), "mic": ("m",)}, time="ms", seconds=1e-3)
    lines = read("who,az,ms,ax,ay,hPa\nada,3,12340,1,2,\nada,6,12360,4,,1000\n", layout=layout)
    assert [line.time for line in lines] == [12.34, 12.36]
    assert [sorted(line.steps) for line in lines] == [["acc"], ["acc", "air"]]
    assert steps(lines[0], "acc") == [[1, 2, 3]]
    assert steps(lines[1], "air") == [[1000]]
    assert np.isnan(lines[1].steps["acc"][0]).tolist() == [False, True, False]
    alone = read("ax,who,ay,az\n1,ada,2,3\n", ONE, layout=Layout({"acc": ("ax", "ay", "az")}))
    assert steps(alone[0], "series") == [[1, 2, 3]]
    for text, modalities, given, message in (
        ("ax,az\n1,2\n", EVEN, Layout({"acc": ("ax", "ay", "az")}), "lacks the column 'ay' of acc"),
        ("ax,ay,az\n1,2,3\n", ONE, layout, "the encoder takes one series, and the schema has air, acc, mic"),
        ("a,b\n1,2\n", EVEN, layout, "no column is of a modality"),
        ("ax,ay,az,hPa\n1,2,3,4\n", BOTH, layout, "a table needs a column ms of times"),
        ("ax,ay\n1,2\n", ONE, Layout({"acc": ("ax", "ay")}), "2 columns are of series, and the encoder takes 3"),
    ):
        with pytest.raises(DataError, match=message):
            read(text, modalities, layout=given)
