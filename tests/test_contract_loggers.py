"""What every logger keeps: generated from the registry, those of optional packages beside stand-ins of these."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.learn.logger import LoggedRun, Logger, check_loggers, open_logger
from kinshot.learn.loggers import LOGGERS
from tests.stand_in_loggers import calls, write_stand_ins

every_logger = pytest.mark.parametrize("name", LOGGERS.names())
OURS = ("stand_in_notes", "wandb", "mlflow")
RECORDS = [{"step": 0, "epoch": 0, "eval/views/top1": 0.5}, {"step": 2, "epoch": 0, "train/loss": None}]


@pytest.fixture(autouse=True)
def _packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in OURS}
    for name in before:
        del sys.modules[name]
    monkeypatch.setenv("STAND_IN", str(tmp_path / "calls.jsonl"))
    monkeypatch.syspath_prepend(str(write_stand_ins(tmp_path / "packages")))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.modules.update(before)


def told_everything(logger: Logger) -> None:
    logger.text("guide", "# what good gauges are")
    logger.scalars(3, 0, {"train/loss": 1.5, "train/info_nce (labels), on projector": math.nan, "time/data_share": 0.5})
    logger.scalars(3, None, {"eval/knn/top1": math.inf, "collapse/x": 1})
    logger.picture("views/grid", torch.rand(3, 8, 10), 3)
    logger.picture("queries", np.zeros((8, 10, 3), np.uint8), 3)
    logger.embedding(torch.rand(4, 5), ["a", "b", "c", "ä"], torch.rand(4, 3, 8, 8), 3)
    logger.embedding(torch.rand(4, 5), None, None, 4)
    logger.flush()
    logger.result({"seed": 0, "train.lr": 0.1, "train.clip": None, "data.attributes": ["a", "b"]}, {"train/loss": 1.5})
    logger.close()


@every_logger
def test_it_takes_everything_that_a_run_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = LoggedRun(tmp_path / "run", "recipe", {"seed": 0, "train.lr": 0.1, "terms": ["x" * 9999]})
    logger = open_logger(name, run, {})
    assert isinstance(logger, Logger)
    told_everything(logger)
    again = LoggedRun(tmp_path / "run", "recipe", {"seed": 0}, 2, RECORDS, dict(run.known))
    told_everything(open_logger(name, again, {}))
    assert again.known == run.known, "a run that goes on is known by the same name"
    outside = {path.name for path in tmp_path.iterdir()} - {"run", "calls.jsonl", "packages"}
    assert outside == set(), "a logger writes into its run's folder alone"


@every_logger
def test_its_page_says_what_it_is(name: str) -> None:
    entry = LOGGERS.entry(name)
    assert entry.summary.endswith(".")
    assert all(parameter.help for parameter in entry.parameters.values())


@every_logger
def test_a_missing_package_is_named_with_its_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = LOGGERS.entry(name).facts.get("package")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not (Path(place) / "stand_in_notes.py").exists()])
    if package is None:
        check_loggers([(name, {})])
        return
    with pytest.raises(ConfigError, match=f"logger {name} needs the package {package}, which is not installed: pip install"):
        check_loggers([(name, {})])


def test_a_server_is_reached_only_where_the_recipe_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://192.0.2.1:5000")
    for name, settings in (("wandb", {}), ("mlflow", {}), ("wandb", {"mode": "online"}), ("mlflow", {"uri": "http://192.0.2.1:5000"})):
        open_logger(name, LoggedRun(tmp_path, "recipe", {"seed": 0}), settings)
    made = calls(tmp_path / "calls.jsonl", "wandb.init")
    assert [(one["mode"], one["resume"]) for (one,) in made] == [("offline", None), ("online", "allow")]
    uris = [uri for (uri,) in calls(tmp_path / "calls.jsonl", "mlflow.client")]
    assert uris == [f"sqlite:///{tmp_path.resolve()}/mlruns/mlflow.db", "http://192.0.2.1:5000"]
