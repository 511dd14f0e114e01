"""Runs that did not get to the end of their training are not measured without a word."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

import kinshot
from kinshot.cli import fewshot, ssl
from kinshot.core.checkpoint import load_checkpoint
from kinshot.runs.reached import reached_by, reached_text, unfinished_notes
from tests.tiny import arguments

TASK = ["--data", "digits", "--ways", "3", "--shots", "1", "--queries", "3", "--episodes", "5", "--no-reference", "--device", "cpu", "-q"]
MEASURES = {
    "eval": [fewshot, "eval", *TASK, "--features", "backbone"],
    "report": [fewshot, "report", *TASK, "--out", "page"],
    "crossdomain": [fewshot, "crossdomain", *TASK],
    "lowshot": [fewshot, "lowshot", "--data", "digits", "--shots", "1", "--draws", "2", "--no-reference", "-q"],
    "generalized": [fewshot, "generalized", "--novel", "glyphs,split=val,variants=2,size=16", "--shots", "1", "--draws", "2", "-q"],
    "imprint": [fewshot, "imprint", "--novel", "glyphs,split=val,variants=2,size=16", "--shots", "1", "--draws", "2", "-q"],
    "measure": [ssl, "measure", *[part for part in TASK if part != "--no-reference"], "--repeats", "2"],
    "probe": [ssl, "probe", "--data", "digits"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, what one leaves that failed at its first step, and a copy of one of the finished run's checkpoints."""
    folder = tmp_path_factory.mktemp("reached")
    few = ["train.epochs=1", "monitor.checkpoint_every=0.5", "monitor.keep=9", "monitor.tensorboard=false", "-q"]
    assert ssl.main(arguments("simclr", *few, "--out", str(folder / "done"))) == 0
    shutil.copytree(folder / "done", folder / "failed")
    (folder / "failed/result.json").unlink()
    for step in (6, 11):
        shutil.rmtree(folder / f"failed/checkpoints/step-{step:08d}")
    shutil.copytree(folder / "done/checkpoints/step-00000006", folder / "copied")
    return folder


@pytest.mark.parametrize("name", MEASURES)
def test_every_command_that_measures_refuses_an_unfinished_run(name: str, place: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    module, command, *args = MEASURES[name]
    assert module.main([command, "done", "failed", *args]) == 3
    said = capsys.readouterr().err
    assert "failed: step 0 of 11 of a run that was NOT finished" in said
    assert "--allow-unfinished" in said
    assert "done" not in said
    assert not (place / "page").exists()


@pytest.mark.parametrize("name", ["eval", "lowshot", "measure", "probe"])
def test_an_unfinished_run_that_is_allowed_is_named_in_the_table_and_in_json(name: str, place: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    module, command, *args = MEASURES[name]
    line = [command, "failed", *args, "--allow-unfinished"]
    assert module.main(line) == 0
    assert "step 0 of 11 of a run that was NOT finished" in capsys.readouterr().out
    assert module.main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["training"] == "step 0 of 11 of a run that was NOT finished"


def test_a_checkpoint_counts_as_its_run_does(place: Path) -> None:
    first, last, failed, copied = (
        load_checkpoint(place / name, parts=()) for name in ("done/checkpoints/step-00000006", "done", "failed", "copied")
    )
    assert str(reached_by(first)) == "step 6 of 11 of a finished run"
    assert str(reached_by(last)) == "step 11 of 11"
    assert reached_by(copied).finished is False  # nothing beside it says how the run went on
    assert reached_text([last, last]) == "each step 11 of 11"
    assert "failed step 0 of 11" in reached_text([last, failed])


def test_loading_starting_from_and_learning_from_an_unfinished_run_say_so(place: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(place)
    with pytest.warns(UserWarning, match="failed did not get to the end of its training: step 0 of 11"):
        kinshot.load("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kinshot.load("done")
    assert unfinished_notes(["", "done", "gone", "torchvision:resnet18:x"]) == []
    line = arguments("simclr", "train.epochs=1", "monitor.tensorboard=false", "--out", "next", "--init", "failed")
    assert ssl.main(line) == 0
    assert "warning: failed did not get to the end of its training: step 0 of 11" in capsys.readouterr().err
