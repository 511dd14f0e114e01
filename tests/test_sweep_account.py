"""What `ssl sweep` leaves in its folder: every run's settings and figures, in a shape that other programs read, and means over seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from kinshot.cli.ssl import main
from kinshot.core.errors import ConfigError
from kinshot.runs.sweep import plan_sweep, seeds_among
from kinshot.runs.sweep_account import write_account
from tests.tiny import TINY

FAST = ("train.epochs=1", "encoder.width=4", "data.size=8", "monitor.tensorboard=false", "monitor.knn_samples=60", "train.batch_size=64")


def sweep(capsys: Any, *args: str | Path) -> str:
    capsys.readouterr()
    assert main(["sweep", str(TINY), *FAST, *map(str, args)]) == 0
    return str(capsys.readouterr().out)


def test_a_grid_ends_with_a_table_and_a_file_that_says_it_all(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "grid é"
    said = sweep(capsys, "method.temperature=0.1,0.5", "views.crop=[0.5, 1]", "seed=0,1", "--out", out)
    account = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    assert (account["finished"], account["of"]) == (4, 4)
    assert account["space"] == {"method.temperature": [0.1, 0.5], "seed": [0, 1]}
    for run in account["runs"]:
        result = json.loads((Path(run["folder"]) / "result.json").read_text())
        assert run["state"] == "COMPLETE"
        assert run["finished"] is True
        assert run["figures"]["train/loss"] == result["metrics"]["train/loss"]
        assert run["cpu_minutes"] == result["cpu_minutes"]
        assert run["params"] == {"method.temperature": run["settings"]["method.temperature"], "seed": run["seed"]}
        assert all(isinstance(value, bool | int | float | str) for value in run["settings"].values())  # flat, of plain types
    row = next(row for row in account["rows"] if (row["label"], row["metric"]) == ("method.temperature=0.5", "train/loss"))
    losses = [run["figures"]["train/loss"] for run in account["runs"] if run["params"]["method.temperature"] == 0.5]
    assert row["mean"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert row["ci95"] == pytest.approx(t.ppf(0.975, 1) * np.std(losses, ddof=1) / np.sqrt(2), abs=1e-4)
    assert row["n"] == 2
    assert "method.temperature=0.5" in said
    assert "eval/knn/backbone" in said


def test_of_a_sweep_that_was_interrupted_the_file_says_what_is_finished(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "grid"
    sweep(capsys, "seed=1", "--out", out)
    finished = (out / "seed=1" / "result.json").stat().st_mtime_ns
    planned = plan_sweep(str(TINY), FAST, [1, 2], out)
    account = write_account(out, "ssl sweep ...", planned)
    assert [(run["seed"], run["finished"], run["state"]) for run in account["runs"]] == [(1, True, "COMPLETE"), (2, False, "WAITING")]
    assert account["runs"][1]["figures"] == {}
    assert json.loads((out / "sweep.json").read_text()) == account
    sweep(capsys, "seed=1,2", "--out", out)
    assert json.loads((out / "sweep.json").read_text())["finished"] == 2
    assert (out / "seed=1" / "result.json").stat().st_mtime_ns == finished  # not trained again


def test_seeds_are_given_once() -> None:
    assert seeds_among(("train.lr=1", "seed=0,2"), "") == (("train.lr=1",), [0, 2])
    assert seeds_among(("seed=@seed",), "3") == (("seed=@seed",), [3])
    assert seeds_among((), "") == ((), [0])
    with pytest.raises(ConfigError, match="seeds are given twice"):
        seeds_among(("seed=0",), "1")
    with pytest.raises(ConfigError, match="seed=: expected whole numbers"):
        seeds_among(("seed=a",), "")
