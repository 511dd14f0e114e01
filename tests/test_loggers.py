"""Loggers of whole runs: the table, stand-ins of Weights & Biases and MLflow, resuming, failing, and what is refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import ConfigError, DataError
from kinshot.learn.features import weights_hash
from kinshot.learn.monitor import Monitor
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.stand_in_loggers import calls, write_stand_ins
from tests.tiny import TINY, command, environment, run

REPOSITORY = Path(__file__).resolve().parents[1]
QUICK = ["monitor.tensorboard=false", "monitor.knn_samples=40", "train.epochs=1"]
ALL = "monitor.loggers=[csv, wandb:project=letters, mlflow]"


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-ins are installed; the file of their calls."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STAND_IN", str(tmp_path / "calls.jsonl"))
    monkeypatch.syspath_prepend(str(write_stand_ins(tmp_path / "packages")))
    forget()
    yield tmp_path / "calls.jsonl"
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("stand_in_notes", "wandb", "mlflow")]:
        del sys.modules[name]


def pretrain(out: str, *overrides: str, resume: str = "never", overwrite: bool = False) -> None:
    """A run in this process."""
    train_recipe(load_recipe(str(TINY), [*QUICK, *overrides]), Options(Path(out), resume, overwrite, quiet=True), lambda text: None)


def table(path: Path) -> list[dict[str, str]]:
    """Rows by column; every line has as many cells as the header, and ends as RFC 4180 says."""
    data = path.read_bytes()
    assert data.endswith(b"\r\n")
    assert data.count(b"\n") == data.count(b"\r\n")
    header, *rows = csv.reader(data.decode().splitlines())
    assert all(len(row) == len(header) == len(set(header)) for row in rows)
    return [dict(zip(header, row, strict=True)) for row in rows]


def recorded(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_records(run: Path) -> None:
    """The table says what metrics.jsonl says."""
    for row, record in zip(table(run / "metrics.csv"), recorded(run), strict=True):
        assert {tag: float(cell) for tag, cell in row.items() if cell and record[tag] is not None} == {
            tag: value for tag, value in record.items() if value is not None
        }
        assert {tag for tag, cell in row.items() if cell} == set(record)


def test_a_run_tells_every_logger_that_is_asked_for_and_none_changes_it(tmp_path: Path, stand_ins: Path) -> None:
    pretrain("run", ALL)
    run = tmp_path / "run"
    assert_same_records(run)
    ((started,),) = calls(stand_ins, "wandb.init")
    assert (started["mode"], started["project"], started["entity"], started["resume"]) == ("offline", "letters", None, None)
    assert (started["dir"], started["name"], started["seed"], started["console"]) == ("run", "run", 0, "off")
    told = [{"step": step, **data} for step, data in calls(stand_ins, "wandb.log")]
    assert [{tag: value for tag, value in record.items() if not tag.startswith("time/")} for record in told] == recorded(run)
    assert calls(stand_ins, "wandb.finish") == [[0]]
    metrics = {(key, step): value for _, key, value, step in calls(stand_ins, "mlflow.metric")}
    expected = {(tag, record["step"]): value for record in recorded(run) for tag, value in record.items() if tag != "step"}
    assert {key: value for key, value in metrics.items() if not key[0].startswith("time/")} == expected
    params = {key: value for _, key, value in calls(stand_ins, "mlflow.param")}
    assert (params["method.name"], params["seed"]) == ("simclr", "0")
    assert calls(stand_ins, "mlflow.end") == [["abc", "FINISHED"]]
    ((uri,),) = calls(stand_ins, "mlflow.client")
    assert uri == f"sqlite:///{run.resolve()}/mlruns/mlflow.db"
    assert json.loads((run / "loggers.json").read_text()) == {"wandb": {"id": started["id"]}, "mlflow": {"run": "abc"}}

    before = len(calls(stand_ins))
    pretrain("plain")
    assert len(calls(stand_ins)) == before
    plain = tmp_path / "plain"
    assert {path.name for path in run.iterdir()} - {path.name for path in plain.iterdir()} == {"metrics.csv", "loggers.json", "mlruns"}
    assert (plain / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    weights = [weights_hash(load_checkpoint(one).training) for one in (run, plain)]
    assert weights[0] == weights[1]


def test_a_run_killed_at_any_place_goes_on_without_a_row_twice(tmp_path: Path, stand_ins: Path) -> None:
    longer = [ALL, "monitor.log_every=1", "monitor.checkpoint_every=0.3", "monitor.knn_every=0"]
    pretrain("whole", *longer)
    stand_ins.unlink()
    path = os.pathsep.join([str(tmp_path / "packages"), os.environ.get("PYTHONPATH", ""), str(REPOSITORY)])
    line = command("ssl", "pretrain", TINY, *QUICK, *longer, "--out", "cut", "-q")
    process = subprocess.Popen(line, cwd=tmp_path, env=environment(PYTHONPATH=path))
    while len(calls(stand_ins, "wandb.log")) < 6 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (tmp_path / "cut" / "metrics.csv").open("ab") as file:
        file.write(b"99,0,1.2")  # as a kill within a line leaves it
    pretrain("cut", *longer, resume="auto")
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert_same_records(tmp_path / "cut")
    assert len(calls(stand_ins, "wandb.init")) == 2
    assert len({started["id"] for (started,) in calls(stand_ins, "wandb.init")}) == 1
    metrics = [(key, step) for _, key, _, step in calls(stand_ins, "mlflow.metric") if not key.startswith("time/")]
    assert len(metrics) == len(set(metrics))
    assert len(calls(stand_ins, "mlflow.run")) == 1
    pretrain("cut", *longer, overwrite=True)
    assert len(calls(stand_ins, "wandb.init")) == 3  # and none for the rehearsal
    assert len({started["id"] for (started,) in calls(stand_ins, "wandb.init")}) == 2


def test_a_server_that_is_gone_is_told_and_the_run_goes_on(
    tmp_path: Path, stand_ins: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "4")
    pretrain("run", "monitor.loggers=[csv, wandb]")
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["logger wandb failed (ConnectionError: the server is gone): the run goes on without it"]
    assert max(step for step, _ in calls(stand_ins, "wandb.log")) < 4
    assert calls(stand_ins, "wandb.finish") == [[1]]
    assert_same_records(tmp_path / "run")


def test_a_logger_that_cannot_start_ends_the_run_before_it_begins(tmp_path: Path, stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "start")
    with pytest.raises(ConfigError, match=r"wandb cannot start \(ConnectionError: the server is gone\): mend that"):
        pretrain("run", "monitor.loggers=[csv, wandb]")
    assert recorded(tmp_path / "run") == []
    monkeypatch.delenv("STAND_IN_FAILS")
    pretrain("run", "monitor.loggers=[csv, wandb]", resume="auto")
    assert_same_records(tmp_path / "run")


def test_what_is_not_installed_costs_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("mlflow") is not None:
        pytest.skip("mlflow is installed")
    before = tmp_path / "run"
    before.mkdir()
    done = run("ssl", "pretrain", TINY, "monitor.loggers=[mlflow]", "--out", str(before), cwd=tmp_path)
    assert done.returncode == 2
    assert "logger mlflow needs the package mlflow, which is not installed: pip install mlflow, or leave the logger out" in done.stderr
    assert list(before.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[csvv]", "unknown logger 'csvv': did you mean 'csv'"),
        ("[wandb:projekt=x]", "unknown key 'projekt': did you mean 'project'"),
        ("[wandb:mode=on]", "mode: expected one of offline, online, got 'on'"),
        ("[csv, csv]", "csv is named twice"),
        ("csv", "monitor: loggers: expected tuple"),
    ],
)
def test_wrong_names_are_found_before_anything_runs(given: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_recipe(str(TINY), [f"monitor.loggers={given}"])


def test_a_server_is_named_in_quotes() -> None:
    recipe = load_recipe(str(TINY), ["monitor.loggers=[\"mlflow:uri='http://localhost:5000'\"]"])
    from kinshot.recipes.loggers import parse_logger

    assert parse_logger(recipe.monitor.loggers[0]) == ("mlflow", {"uri": "http://localhost:5000", "experiment": "kinshot"})


# -- the monitor


def test_a_table_is_a_function_of_the_records(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()

    def tell(monitor: Monitor, steps: range, more: float = 0.0) -> None:
        for step in steps:
            monitor.scalars(step, {"train/loss": 1 / step + more, "time/s": 0.1, **({'a,"b"': step} if step > 2 else {})}, epoch=0)
            if step % 3 == 0:
                monitor.scalars(step, {"eval/knn": float("nan")})

    with Monitor(tmp_path / "whole", tensorboard=False, loggers=[("csv", {})]) as monitor:
        tell(monitor, range(1, 10))
    with Monitor(tmp_path / "cut", tensorboard=False, loggers=[("csv", {})]) as monitor:
        tell(monitor, range(1, 5))
        tell(monitor, range(5, 8), more=1.0)
        monitor.scalars(8, {"never/again": 1.0})
    with Monitor(tmp_path / "cut", tensorboard=False, resume_step=4, loggers=[("csv", {})]) as monitor:
        tell(monitor, range(5, 10))
    assert (tmp_path / "cut" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
    assert_same_records(tmp_path / "whole")
    assert [*table(tmp_path / "whole" / "metrics.csv")[0]] == ["step", "epoch", "train/loss", 'a,"b"', "eval/knn"]
    assert (tmp_path / "whole" / "metrics.csv").read_bytes().splitlines()[0] == b'step,epoch,train/loss,"a,""b""",eval/knn'


def test_a_logger_that_comes_later_has_the_earlier_rows(tmp_path: Path) -> None:
    with Monitor(tmp_path, tensorboard=False) as monitor:
        monitor.scalars(1, {"a": 1.0}, epoch=0)
    with Monitor(tmp_path, tensorboard=False, resume_step=1, loggers=[("csv", {})]) as monitor:
        monitor.scalars(2, {"a": 2.0}, epoch=0)
    assert table(tmp_path / "metrics.csv") == [{"step": "1", "epoch": "0", "a": "1.0"}, {"step": "2", "epoch": "0", "a": "2.0"}]


def test_tensorboard_is_a_logger_among_others(tmp_path: Path) -> None:
    for number, how in enumerate(({"tensorboard": True}, {"tensorboard": False, "loggers": [("tensorboard", {})]})):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Monitor(folder, **how) as monitor:  # type: ignore[arg-type]
            assert monitor.tensorboard
        assert list((folder / "tensorboard").iterdir())


def test_a_table_that_cannot_be_written_ends_the_run_as_records_do(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, tensorboard=False, loggers=[("csv", {})])
    monitor.scalars(1, {"a": 1.0})
    shutil.rmtree(tmp_path)
    with pytest.raises(DataError, match=r"metrics\.csv"):
        monitor.scalars(2, {"b": 1.0})
    monitor.close()


def test_what_loggers_keep_is_read_with_care(tmp_path: Path) -> None:
    (tmp_path / "loggers.json").write_text("[1]")
    with pytest.raises(DataError, match=r"loggers\.json does not say what loggers keep: remove it"):
        Monitor(tmp_path, tensorboard=False, loggers=[("csv", {})])
