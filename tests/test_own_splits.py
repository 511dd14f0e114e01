"""Every command that measures a run on its own data takes the same split of it."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from kinshot.cli import fewshot, ssl
from kinshot.datasets import SOURCES
from kinshot.recipes.recipe import Choice
from kinshot.recipes.splits import measured_data, own_split, present_split
from tests.study_runs import write_run

TASK = ["--ways", "2", "--shots", "1", "--queries", "2", "--episodes", "4"]
DRAWS = ["--draws", "2", "--shots", "1"]
COMMANDS = {
    ("fewshot", "eval"): [*TASK, "--features", "backbone"],
    ("fewshot", "report"): [*TASK, "--features", "backbone", "--out", "page", "--overwrite"],
    ("fewshot", "lowshot"): [*DRAWS, "--heads", "prototype"],
    ("fewshot", "retrieve"): ["--metrics", "recall_at_1"],
    ("fewshot", "generalized"): DRAWS,
    ("fewshot", "imprint"): [*DRAWS, "--tunings", "none", "--starts", "imprinted"],
    ("ssl", "embed"): ["features.npz"],
    ("ssl", "measure"): [*TASK, "--repeats", "1", "--k", "3"],
}
"""Those whose help says that they take the run's own data."""


def write_split(root: Path, split: str, classes: int, images: int = 6) -> None:
    rng = np.random.default_rng(classes)
    for label in range(classes):
        folder = root / split / f"{split}{label}"
        folder.mkdir(parents=True)
        for image in range(images):
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / f"{image}.png")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the splits train, val and test, other classes in each, and a run that was trained on train."""
    monkeypatch.chdir(tmp_path)
    for split, classes in (("train", 4), ("val", 3), ("test", 2)):
        write_split(tmp_path / "data", split, classes)
    write_run(tmp_path / "run", {"name": "folder", "root": str(tmp_path / "data"), "split": "train", "size": 16, "channels": 1})
    return tmp_path


def measured(capsys: pytest.CaptureFixture[str], command: tuple[str, str], *more: str, code: int = 0) -> str:
    """What a command printed, or said where it fails."""
    capsys.readouterr()
    main = {"fewshot": fewshot.main, "ssl": ssl.main}[command[0]]
    got = main([command[1], "run", *COMMANDS[command], *more, "--device", "cpu", "-q", "--json"])
    said = capsys.readouterr()
    assert got == code, said.err
    return said.err if code else said.out


def test_every_command_that_takes_a_runs_own_data_is_looked_at() -> None:
    found = {
        (name, command)
        for name, group in (("fewshot", fewshot.fewshot), ("ssl", ssl.ssl))
        for command, what in group.commands.items()
        for option in what.params
        if isinstance(option, click.Option) and "own data, split test" in (option.help or "")
    }
    assert found == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_split_test_beside_the_one_that_was_trained_on_is_measured(command: tuple[str, str], place: Path, capsys) -> None:
    told = json.loads(measured(capsys, command))
    data = told["data"] if "data" in told else json.loads((place / "page" / "report.json").read_text())["about"]["Data"]
    if isinstance(data, dict) and "novel" in data:
        assert (data["novel"], data["novel classes"], data["validation"]) == ("folder/test", 2, "folder/val")
    elif isinstance(data, dict):
        assert (data["name"], data["classes"]) == ("folder/test", 2)
    else:
        assert data.startswith("folder/test")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_split_that_was_trained_on_does_not_stand_in_for_one_that_is_not_there(command: tuple[str, str], place: Path, capsys) -> None:
    (place / "data" / "test").rename(place / "elsewhere")
    said = measured(capsys, command, code=2 if command[1] in ("generalized", "imprint") else 3)
    assert "test" in said


def test_validation_classes_that_are_not_there_are_left_out(place: Path, capsys) -> None:
    (place / "data" / "val").rename(place / "elsewhere")
    assert "validation" not in json.loads(measured(capsys, ("fewshot", "generalized")))["data"]


@pytest.mark.parametrize("name", SOURCES.names())
def test_one_rule_for_every_source(name: str) -> None:
    parameters = SOURCES.entry(name).parameters
    settings = {key: parameter.default for key, parameter in parameters.items() if key != "root"}
    if "root" in parameters:
        settings["root"] = "somewhere"
    data = Choice(name, settings)
    found = measured_data(data)
    if "split" not in parameters or not settings["split"]:
        assert found == data
        return
    assert found.settings["split"] == "test"
    assert found.settings.get("part", "all") == "all"
    assert {key: value for key, value in found.settings.items() if key not in ("split", "part")} == {
        key: value for key, value in settings.items() if key not in ("split", "part")
    }
    assert own_split(found, "test") is None
    assert measured_data(found) == found
    assert own_split(data, "no such split") is None


def test_images_of_a_part_are_all_images_in_another_split() -> None:
    grocery = Choice("grocery_store", {"root": "x", "split": "train", "part": "train"})
    assert measured_data(grocery) == Choice("grocery_store", {"root": "x", "split": "test"})


def test_a_split_of_a_folder_is_there_where_its_subfolder_or_its_list_is(tmp_path: Path) -> None:
    write_split(tmp_path, "train", 1, images=1)
    write_split(tmp_path, "test", 1, images=1)
    data = Choice("folder", {"root": str(tmp_path), "split": "train"})
    assert present_split(data, "test") == own_split(data, "test") == Choice("folder", {"root": str(tmp_path), "split": "test"})
    assert own_split(data, "val") is not None
    assert present_split(data, "val") is None
    listed = Choice("folder", {"root": str(tmp_path), "split": "cub_easyfsl:train"})
    assert present_split(listed, "test") == Choice("folder", {"root": str(tmp_path), "split": "cub_easyfsl:test"})
    assert present_split(listed, "tset") is None
    assert own_split(Choice("folder", {"root": str(tmp_path), "split": ""}), "test") is None
