"""`ssl embed`: features as a file that is a source again, and a head on them by one command more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinshot.cli import ssl
from kinshot.datasets import SOURCES
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.embedder import from_checkpoint
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.study_runs import CPU, DIGITS, source, write_run
from tests.study_runs import features_of as computed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("embed")
    write_run(here / "run", DIGITS)
    return here


def embedded(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> tuple[dict, str]:
    assert ssl.main(["embed", *map(str, words), *(["--json"] if code == 0 else [])]) == code
    out, err = capsys.readouterr()
    return (json.loads(out) if code == 0 else {}), err


def test_the_file_has_features_labels_and_attributes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = embedded(capsys, folder / "run", folder / "f.npz", "--data", "digits,split=test", "--feature", "joint")
    model, data = from_checkpoint(read(folder / "run")), source("digits", split="test", size=16)
    with np.load(folder / "f.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["features"], computed(model, data, CPU)["joint"].numpy())
        assert file["features"].dtype == np.float32
        assert file["label"].tolist() == [data.class_names[label] for label in data.labels]
    assert (found["samples"], found["columns"]) == (len(data), ["features", "label"])
    again = SOURCES.build("table", settings={"root": str(folder / "f.npz"), "label": "label"})
    np.testing.assert_array_equal(again.labels, data.labels)
    np.testing.assert_array_equal(again.load(range(5)).numpy(), computed(model, data, CPU)["joint"][:5].numpy())


def test_without_data_the_runs_own_test_part_is_embedded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = embedded(capsys, folder / "run", folder / "own.npz")
    assert found["data"] == "digits/test"


def test_attributes_come_by_name_and_unknown_ones_are_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["x0,x1,who,where", *(f"{k},{k % 3},{'ab'[k % 2]},{['north', ''][k % 2]}" for k in range(8))]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    data = {"name": "table", "root": str(tmp_path / "t.csv"), "label": "who", "attributes": ["where"]}
    more = {"encoder": {"name": "mlp", "widths": [4]}, "views": {"name": "clean", "views": 1}}
    write_run(tmp_path / "run", data, method="simclr", **more)
    found, _ = embedded(capsys, tmp_path / "run", tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as file:
        assert file["where"].tolist() == ["north", ""] * 4
    assert found["as a source"] == f"data=table data.root={tmp_path / 'f.npz'} data.label=label 'data.attributes=[where]'"
    again = SOURCES.build("table", settings={"root": str(tmp_path / "f.npz"), "label": "label", "attributes": ("where",)})
    assert again.attributes["where"].tolist() == [0, -1] * 4


def test_a_head_on_frozen_features_trains(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embedded(capsys, folder / "run", folder / "train.npz", "--data", "digits,split=train")
    (tmp_path / "head.yaml").write_text(
        f"data: {{name: table, root: {folder / 'train.npz'}, label: label}}\nviews: {{name: clean, views: 1}}\n"
        "encoder: {name: mlp, widths: [8]}\nprojector: {layers: 1, dim: 4}\norder: {name: classes, per_class: 4}\n"
        "method: {name: metric}\nterms: [{objective: multi_similarity, kin: labels, on: projector}]\n"
        "train: {epochs: 1, batch_size: 32, threads: 1}\nmonitor: {tensorboard: false, knn_every: 0}\n"
    )
    done = train_recipe(load_recipe(str(tmp_path / "head.yaml"), []), Options(tmp_path / "head", quiet=True), lambda text: None)
    assert done["metrics"]["train/loss"] > 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{run}", "f.csv"], 2, "FILE is an .npz file, got 'f.csv': give it this ending"),
        (["{run}", "f.npz", "--feature", "backbone,projector"], 2, "--feature takes one"),
        (["{run}", "f.npz", "--feature", "bakcbone"], 2, "backbone"),
        (["{run}/nowhere", "f.npz"], 3, "nowhere"),
        (["{run}", "f.npz", "--data", "digit"], 2, "digits"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str],
    code: int,
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _, said = embedded(capsys, *(word.replace("{run}", str(folder / "run")) for word in words), code=code)
    assert message in said
    assert not list(tmp_path.glob("f.*"))
