"""What `ssl stream` cannot use or was not asked rightly is told, and it ends as commands do."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

from kinshot.cli import ssl
from kinshot.datasets.recording import Recording
from tests.conftest import cli_environment
from tests.segmentation_runs import write_run
from tests.stream_runs import FUSED, LOOKS_AHEAD, Stream, caller, endless, someone, steps, trained


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("fused"), ssl, "pretrain", FUSED)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return someone()


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stream:
    return caller(tmp_path, monkeypatch, capsys)


BAD = '{"accelerometer": [1, 2]}'


def test_a_bad_line_is_told_by_its_number_after_what_came_before_it(fused, recording, stream) -> None:
    text = "".join(json.dumps(line) + "\n" for line in steps(recording)[:140])
    code, records, err = stream(fused, f"{text}{BAD}\n{text}")
    assert code == 3
    assert len(records) == 1
    assert "error: line 141, accelerometer: one step has 2 values, the encoder takes 3 to a step" in err
    assert "Traceback" not in err


def test_bad_lines_are_left_out_and_counted_where_that_is_asked(fused, recording, stream) -> None:
    lines = steps(recording)[:140]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    untimed = '{"barometer": 3}\n'
    code, records, err = stream(fused, f"{BAD}\n{text[: len(text) // 2]}\n{text}{untimed}" + "x\n" * 9, "--skip-bad")
    assert code == 0
    assert records
    assert "left out: line 1, accelerometer: one step has 2 values" in err
    assert err.count("left out: line") == 5
    assert "lines are left out, which could not be used" in err
    code, again, err = stream(fused, f"{text}{untimed}", "--skip-bad")
    assert "left out: line 141 has no time, and those before it have" in err
    assert again == stream(fused, text)[1]


def test_a_last_line_that_is_cut_off_ends_the_stream(fused, recording, stream) -> None:
    text = "".join(json.dumps(line) + "\n" for line in steps(recording)[:140])
    code, records, err = stream(fused, text[:-9])
    assert (code, len(records)) == (0, 1)
    assert "the last line is left out, which the end cut off: line 140 is no JSON" in err


def test_another_rate_is_an_error(fused, recording, stream) -> None:
    lines = [{**line, "t": line["t"] / 2} for line in steps(recording, ["accelerometer"])]
    code, _, err = stream(fused, lines, "--skip-bad")
    assert code == 3
    assert "accelerometer: the encoder takes 50 Hz, and the times of the last" in err
    assert "say 100 Hz: resample to 50 Hz" in err


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--every", 1, "--window", 2], 2, "--every knows no windows, as it goes on with all that came: leave --window out"),
        (
            ["--every", 1, "--pad", "--measured", 1],
            2,
            "--every knows no windows, as it goes on with all that came: leave --measured, --pad",
        ),
        (["--each-line", "--every", 1], 2, "--each-line knows no streams, as every line is a window: leave --every out"),
        (["--window", 0], 2, "--window: expected seconds above 0, got 0"),
        (["--window", "nan"], 2, "--window: expected seconds above 0, got nan"),
        (["--window", 3], 2, "--window: this encoder was trained on windows of 2.56 s, got 3: give at most that"),
        (["--window", 0.05], 2, "--window: no step of barometer at 10 Hz fits into 0.05 s"),
        (["--step", 0.001], 2, "--step: expected at least a step of the fastest modality, 0.02 s, got 0.001"),
        (["--every", 0.01], 2, "--every: expected at least a step of the fastest modality"),
        (["--measured", 2], 2, "--measured: expected a share of steps above 0 and up to 1, got 2"),
        (["--wait", -1], 2, "expected wait and gap of at least 0 s, got -1.0"),
        (["--feature", "gyro"], 2, "has no output 'gyro': did you mean 'gyroscope'"),
        (["--predict"], 2, "learned no classes: name labelled samples, --support"),
        (["--predict", "--feature", "projector"], 2, "stand on a feature of their own: leave --feature out"),
        (["--support", "moton"], 2, "did you mean 'motion'"),
        (["--support", "digits"], 3, "but the encoder was made for"),
        (["--form", "xml"], 2, "'xml' is not one of 'auto', 'json', 'csv'"),
        (["gone.jsonl"], 3, "FILE names gone.jsonl, which is not there: give the path of a file, or - for standard input"),
        (["."], 3, "FILE names ., which is a folder"),
    ],
)
def test_what_cannot_be_asked_is_told(fused, stream, args, code, told) -> None:
    found, records, err = stream(fused, None, *args)
    assert (found, records) == (code, [])
    assert told in err
    assert "Traceback" not in err


def test_what_needs_its_window_does_not_carry_a_state(tmp_path, stream) -> None:
    run = trained(tmp_path, ssl, "pretrain", LOOKS_AHEAD)
    code, _, err = stream(run, [], "--every", 1)
    assert code == 2
    assert "encoder fused cannot stream: its encoder of accelerometer, gyroscope, barometer needs a whole window" in err


def test_an_encoder_of_something_else_is_refused(tmp_path, stream) -> None:
    run = write_run(tmp_path / "run")
    code, _, err = stream(run, [])
    assert code == 2
    assert "does not stream, it was made for images" in err
    assert "take an encoder of series or of bundles of them" in err


def test_the_keyboard_interrupts(fused, stream, monkeypatch, capsys) -> None:
    class Held(io.RawIOBase):
        def readline(self, size: int | None = -1, /) -> bytes:
            raise KeyboardInterrupt

    class Stdin:
        buffer = Held()

    monkeypatch.setattr(sys, "stdin", Stdin())
    assert ssl.main(["stream", str(fused)]) == 130
    said = capsys.readouterr().err
    assert "interrupted" in said
    assert "0 lines, 0 windows" in said
    monkeypatch.setattr(sys, "stdin", None)
    assert ssl.main(["stream", str(fused)]) == 3
    assert "standard input is closed: give it lines, or name a FILE" in capsys.readouterr().err


def test_a_pipe_is_answered_at_once_and_may_close(fused, recording) -> None:
    """The command as a process: a window is there before the next line is given, and a reader that leaves is no error."""
    line = [sys.executable, "-m", "kinshot.cli.ssl", "stream", str(fused)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=cli_environment(), bufsize=0, **pipes) as process:
        watch = Timer(100, process.kill)  # so that a line that never comes fails, and does not hang
        watch.start()
        rows = endless(recording)
        for _ in range(135):  # a window, and as long as the other modalities are waited for
            process.stdin.write(next(rows))
        assert json.loads(process.stdout.readline())["end"] == 2.56
        process.stdout.close()
        with suppress(BrokenPipeError):  # it goes as soon as it has a window to tell
            for _ in range(1000):
                process.stdin.write(next(rows))
        process.stdin.close()
        assert process.wait() == 0
        watch.cancel()
        assert process.stderr.read() == b""
