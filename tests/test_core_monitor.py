"""Records: metrics.jsonl, event files read back with TensorBoard's own reader, progress lines and tables."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.progress import Progress, duration, table
from kinshot.learn.board import guide, image_grid, shown_tag
from kinshot.learn.monitor import MAX_POINTS, Monitor
from tests import tiny
from tests.saved import file_size_limit


def records(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (folder / name).read_text().splitlines()]


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()


def curve(accumulator: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(e.step, e.value) for e in accumulator.Scalars(tag)]


# -- scalars


def test_the_same_scalars_in_both_places(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        for step in (1, 2):
            loss = torch.tensor(1.5 / step, requires_grad=True)
            monitor.scalars(step, {"train/loss": loss, "train/queue": 7, "time/images_per_second": 100.0 * step}, epoch=step - 1)
        monitor.scalars(2, {"eval/knn/top1": 0.25})
    assert records(tmp_path) == [
        {"step": 1, "epoch": 0, "train/loss": 1.5, "train/queue": 7},
        {"step": 2, "epoch": 1, "train/loss": 0.75, "train/queue": 7},
        {"step": 2, "eval/knn/top1": 0.25},
    ]
    assert [r["time/images_per_second"] for r in records(tmp_path, "timing.jsonl")] == [100.0, 200.0]
    written = events(tmp_path)
    assert curve(written, "2_train/loss") == [(1, 1.5), (2, 0.75)]
    assert curve(written, "7_time/images_per_second") == [(1, 100.0), (2, 200.0)]
    assert curve(written, "1_eval/knn/top1") == [(2, 0.25)]


def test_the_most_telling_groups_come_first() -> None:
    """TensorBoard sorts by name: collapse came before eval, and train after time."""
    tags = ["collapse/feature_std", "eval/knn/backbone", "graph/edges", "interclr/clusters", "moco/queue", "time/data_share"]
    tags += ["train/grad_norm", "train/inter", "train/loss", "train/lr"]
    shown = sorted(map(shown_tag, tags))
    assert [tag.partition("/")[0].partition("_")[2] for tag in shown] == [
        "eval", "train", "train", "collapse", "interclr", "moco", "optimizer", "optimizer", "graph", "time",
    ]  # fmt: skip
    assert len(set(shown)) == len(tags)
    assert all(tag in guide() for tag in ("1_eval/knn", "2_train/loss", "3_collapse/effective_rank", "7_time/data_share"))
    assert all(tag in guide() for tag in ("1_eval/validation/miou", "4_dual_prototype/dictionary_fill", "segmentation/queries"))


def test_the_guide_is_a_text_of_the_run(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.guide()
    written = events(tmp_path)
    (tag,) = written.Tags()["tensors"]
    (text,) = written.Tensors(tag)[0].tensor_proto.string_val
    assert "effective_rank" in text.decode()


def test_not_finite_values_are_null(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.scalars(1, {"a": math.nan, "b": torch.tensor(-math.inf), "c": 1.0})
    assert records(tmp_path) == [{"step": 1, "a": None, "b": None, "c": 1.0}]
    assert math.isnan(curve(events(tmp_path), "a")[0][1])


def test_a_resumed_run_leaves_the_records_of_an_unstopped_one(tmp_path: Path) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    with Monitor(tmp_path / "whole") as monitor:
        for step in range(1, 9):
            monitor.scalars(step, {"train/loss": 1 / step}, epoch=0)
    with Monitor(tmp_path / "stopped") as monitor:
        for step in range(1, 7):
            monitor.scalars(step, {"train/loss": 1 / step + (step > 4), "time/s": 1.0}, epoch=0)
    with (tmp_path / "stopped" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "train/lo')  # killed in the middle of a line
    time.sleep(1.1)  # event files are read in the order of their names, which begin with the second
    with Monitor(tmp_path / "stopped", resume_step=4) as monitor:
        for step in range(5, 9):
            monitor.scalars(step, {"train/loss": 1 / step}, epoch=0)
    whole, stopped = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped
    assert curve(events(tmp_path / "stopped"), "2_train/loss") == curve(events(tmp_path / "whole"), "2_train/loss")
    assert [r["step"] for r in records(tmp_path / "stopped", "timing.jsonl")] == [1, 2, 3, 4]


def test_a_fresh_run_drops_older_records(tmp_path: Path) -> None:
    with Monitor(tmp_path, tensorboard=False) as monitor:
        monitor.scalars(0, {"a": 0.0})
        monitor.scalars(1, {"a": 1.0})
    with Monitor(tmp_path, tensorboard=False) as monitor:
        monitor.scalars(1, {"a": 2.0})
    assert records(tmp_path) == [{"step": 0, "a": 0.0}, {"step": 1, "a": 2.0}]
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("line", ["not json", "[1]", '{"epoch": 1}', '{"step": "1"}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + line + '\n{"step": 2}\n')
    with pytest.raises(DataError, match="line 2 is not a record"):
        Monitor(tmp_path, tensorboard=False)
    assert line in (tmp_path / "metrics.jsonl").read_text()


def test_missing_folder_and_closed_monitor(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot record"):
        Monitor(tmp_path / "no" / "where")
    monitor = Monitor(tmp_path, tensorboard=False)
    monitor.close()
    monitor.close()
    with pytest.raises(DataError, match="closed"):
        monitor.scalars(1, {"a": 1.0})


def test_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"monitor\.tensorboard=false"):
        Monitor(tmp_path)


def test_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda problem: None)  # TensorBoard's thread reports its own end
    monitor = Monitor(tmp_path)
    with file_size_limit(2000):
        monitor.view_grid([torch.rand(8, 3, 64, 64)] * 2)
        with pytest.raises(DataError, match=r"cannot record to .*tensorboard.*File too large"):
            monitor.flush()
        monitor.scalars(1, {"a": 1.0})
        with pytest.raises(DataError, match=r"cannot record to .*metrics\.jsonl.*File too large"):
            monitor.scalars(2, {f"a{i}": 1.0 for i in range(1000)})
        monitor.close()
    with Monitor(tmp_path, resume_step=2, tensorboard=False):
        assert records(tmp_path) == [{"step": 1, "a": 1.0}]


def test_importing_the_monitor_imports_no_tensorboard() -> None:
    code = "import sys, kinshot.learn.monitor, kinshot.core.progress, kinshot.core.checkpoint, kinshot.core.signals, kinshot.core.runtime\n"
    code += "raise SystemExit(any(m in sys.modules for m in ('tensorboard', 'torch', 'rich', 'safetensors')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


# -- images, embeddings, hparams


def test_view_grids_keep_their_steps(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.view_grid([torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 6, 6)], step=1)
        monitor.view_grid([torch.zeros(3, 1, 8, 8)], torch.zeros(3, 1, 30, 30, dtype=torch.uint8), step=7)
    shown = events(tmp_path).Images("views/grid")
    assert [(image.step, image.width, image.height) for image in shown] == [(1, 3 * 58, 2 * 58), (7, 3 * 62, 2 * 62 + 6)]


def test_image_grid_places_views_in_rows() -> None:
    views = [torch.stack([torch.full((3, 4, 4), (v * 2 + n) / 10) for n in range(2)]) for v in range(2)]
    grid = image_grid(views)
    assert grid.shape == (3, 2 * 58, 2 * 58), "small pictures are enlarged, 14 times, with a border of a pixel"
    for v in range(2):
        for n in range(2):
            assert torch.allclose(grid[:, v * 58 + 1 : v * 58 + 57, n * 58 + 1 : n * 58 + 57], torch.tensor((v * 2 + n) / 10))
    assert image_grid([torch.rand(20, 2, 4, 4)]).shape == (3, 58, 8 * 58)


@pytest.mark.parametrize("size", [4, 64])
def test_originals_stand_above_their_views(size: int) -> None:
    originals = torch.stack([torch.full((1, size, size), 51 * n, dtype=torch.uint8) for n in range(3)])
    grid = image_grid([torch.ones(3, 1, 4, 4)], originals)
    side = max(56, size) + 2
    assert grid.shape == (3, 2 * side + 6, 3 * side)
    for n in range(3):
        assert torch.allclose(grid[:, 1 : side - 1, n * side + 1 : (n + 1) * side - 1], torch.tensor(51 * n / 255))
    assert (grid[:, side : side + 6] == 1).all(), "a white line apart"


@pytest.mark.parametrize("channels", [1, 3])
def test_embedding_with_thumbnails_and_names(tmp_path: Path, channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    z = torch.arange(20.0).reshape(10, 2)
    z[3, 1] = math.nan
    images = torch.randint(0, 256, (10, channels, 40, 20), dtype=torch.uint8)
    with Monitor(tmp_path) as monitor:
        for _ in range(2):
            monitor.embedding(z, images, [f"class\t{i}\n" for i in range(10)], 5)
    folder = tmp_path / "tensorboard" / "00005" / "embedding"
    rows = [[float(v) for v in line.split("\t")] for line in (folder / "tensors.tsv").read_text().splitlines()]
    assert rows == [[2.0 * i, 2.0 * i + 1] for i in range(10) if i != 3]
    assert (folder / "metadata.tsv").read_text().splitlines() == [f"class {i}" for i in range(10) if i != 3]
    assert (folder / "sprite.png").read_bytes()[:4] == b"\x89PNG"
    assert "00005/embedding/tensors.tsv" in (tmp_path / "tensorboard" / "projector_config.pbtxt").read_text()
    assert capsys.readouterr().out == ""


def test_embedding_is_capped(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.embedding(torch.arange(MAX_POINTS + 500.0)[:, None], None, None, 1)
    rows = (tmp_path / "tensorboard" / "00001" / "embedding" / "tensors.tsv").read_text().splitlines()
    assert len(rows) == len(set(rows)) == MAX_POINTS
    assert (float(rows[0]), float(rows[-1])) == (0, MAX_POINTS + 499)


def test_hparams_stay_in_the_run(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.scalars(4, {"eval/top1": 0.5})
        config = {"lr": 0.1, "epochs": 3, "name": "x", "on": True, "betas": [0.9, 0.99], "none": None}
        monitor.hparams(config, {"eval/top1": 0.5, "final/auc": torch.tensor(0.75)})
    assert [p.is_file() for p in (tmp_path / "tensorboard").iterdir()] == [True]
    written = events(tmp_path)
    assert curve(written, "1_eval/top1") == [(4, 0.5)]
    assert curve(written, "4_final/auc") == [(4, 0.75)]
    content = written.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    given = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {key: getattr(value, value.WhichOneof("kind")) for key, value in given.items()} == {
        "lr": 0.1,
        "epochs": 3,
        "name": "x",
        "on": "true",
        "betas": "[0.9, 0.99]",
    }
    experiment = HParamsPluginData.FromString(written.summary_metadata["_hparams_/experiment"].plugin_data.content).experiment
    assert {info.name.tag for info in experiment.metric_infos} == {"1_eval/top1", "4_final/auc"}


def test_a_run_shows_originals_beside_views_at_its_beginning_and_in_its_middle(tmp_path: Path) -> None:
    more = ["train.epochs=2", "views.small_size=9", "views.small_epochs=1", "monitor.projector_points=0", "--out", "run"]
    done = tiny.run("ssl", *tiny.arguments("simclr", *more, "--json"), cwd=tmp_path)
    steps = tiny.result(done)["steps"]
    written = events(tmp_path / "run")
    shown = written.Images("views/grid")
    assert [image.step for image in shown] == [1, steps // 2 + 1]
    assert [(image.width, image.height) for image in shown] == [(8 * 66, 3 * 66 + 6)] * 2, "originals and two views of eight samples"
    assert any("gauges" in tag for tag in written.Tags()["tensors"])


# -- progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_every_few_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(100, 40, stream=stream, every=10, clock=clock) as progress:
        for step in range(41, 101):
            clock.now += 1
            progress.update(step, epoch=step // 50, loss=torch.tensor(1 / 3), rate=512.4)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step 50/100  epoch 2  loss 0.3333  512 images/s  50s left"
    assert lines[-1] == "step 100/100  epoch 3  loss 0.3333  512 images/s  0s left"
    assert len(lines) == 6


def test_a_loss_is_read_only_when_shown() -> None:
    class Unread:
        def __float__(self) -> float:
            raise RuntimeError("read")

    progress = Progress(100, stream=io.StringIO(), clock=Clock())
    progress.update(1, epoch=0, loss=Unread())  # type: ignore[arg-type]
    Progress(1, stream=io.StringIO(), quiet=True).update(1, epoch=0, loss=Unread())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="read"):
        progress.update(100, epoch=0, loss=Unread())  # type: ignore[arg-type]


def test_quiet_writes_nothing_and_a_closed_stream_stops_nothing() -> None:
    for stream in (io.StringIO(), Terminal()):
        with Progress(2, quiet=True, stream=stream) as progress:
            progress.update(2, epoch=0, loss=1.0)
        assert stream.getvalue() == ""
    closed = io.StringIO()
    closed.close()
    progress = Progress(2, quiet=True)
    progress.quiet, progress.stream = False, closed
    progress.update(2, epoch=0, loss=1.0)


@pytest.mark.parametrize("no_color", [False, True])
def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream, stdout = Terminal(), sys.stdout
    clock = Clock()
    with Progress(10, stream=stream, clock=clock) as progress:
        assert sys.stdout is stdout
        clock.now += 1
        progress.update(5, epoch=0, loss=0.5, rate=10)
        assert "step" not in stream.getvalue()
    progress.close()
    progress.update(10, epoch=0, loss=0.5)
    text = stream.getvalue()
    assert "epoch 1  loss 0.5000  10 images/s  1s left" in text
    assert "5/10" in text
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", text)) != no_color


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_narrow_terminal_keeps_the_time_left(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    stream, clock = Terminal(), Clock()
    with Progress(12000, stream=stream, clock=clock) as progress:
        clock.now += 3600
        progress.update(6000, epoch=5, loss=0.5, rate=1234)
        progress._bar.refresh()
        lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]", stream.getvalue())]
    shown = [line.rstrip() for line in lines if "6000/12000" in line]
    assert shown
    for line in shown:
        assert line.endswith("1h00m left")
        assert len(line) <= columns
        assert ("1234 images/s" in line) == (columns >= 80)
        assert 4 <= line.count("\u2501") + line.count("\u2578") + line.count("\u257a") <= 40
    assert ("loss 0.5000" in shown[0]) == (columns >= 60)


def test_no_bar_on_a_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Progress(1, stream=stream) as progress:
        progress.update(1, epoch=0, loss=0.5)
    assert stream.getvalue().startswith("step 1/1  epoch 1  loss 0.5000")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (90000, "1d01h"), (math.nan, "?"), (-3, "0s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# -- tables


def test_table() -> None:
    rows: list[dict[str, Any]] = [{"name": "a", "acc": 0.5, "n": 3, "ok": True}, {"name": "longer\nname\x1b[31m", "n": 12345}]
    assert table(rows, ["name", "n", "acc", "ok"]).splitlines() == [
        "name                  n  acc  ok",
        "a                     3  0.5  yes",
        "longer name?[31m  12345    -  -",
    ]
    wide: list[Any] = [("日本", 1), ("x", 2)]
    assert table(wide, ["k", "v"]).splitlines() == ["k     v", "日本  1", "x     2"]
    assert table([], ["a", "b"]) == "a  b"


CELLS = st.one_of(st.none(), st.integers(), st.floats(), st.text("ab \n\t\x1b\x00\u0085\u202e日é\u0301", max_size=9))


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=5))
def test_tables_have_one_line_per_row_and_nothing_that_moves_the_cursor(rows: list[list[Any]]) -> None:
    text = table(rows, ["a", "b", "c"])
    assert len(text.splitlines()) == len(rows) + 1
    assert all(c.isprintable() or c == "\n" for c in text)
