"""A folder of `ssl export --format huggingface`: read as a checkpoint, refused when it is damaged, and what its card says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import kinshot
from kinshot.cli import fewshot, ssl
from kinshot.core.errors import CheckpointError
from kinshot.exports.subject import recipe_hash
from kinshot.recipes.loaded import read
from tests.exported_runs import COLOUR, GREY, export, photographs, wanted, write_run

pytest.importorskip("timm", reason="needs the optional package timm")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained runs: a ResNet-18 that timm knows, a Conv-4, and one whose training did not get to its end."""
    place = tmp_path_factory.mktemp("runs")
    write_run(place / "known", {"name": "resnet18"}, COLOUR)
    write_run(place / "conv4", {"name": "conv4", "width": 8}, GREY)
    write_run(place / "halted", {"name": "conv4", "width": 8}, GREY, total_steps=9)
    return place


@pytest.fixture
def here(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the runs under `runs`."""
    (tmp_path / "runs").symlink_to(runs)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_exported_folder_is_loaded_and_measured_as_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for kind in range(3):
        (here / "photos" / f"kind{kind}").mkdir(parents=True)
        for number in range(4):
            pixels = (rng.uniform(0, 60, (30, 30)) + 60 * kind).astype(np.uint8)
            Image.fromarray(pixels).save(here / "photos" / f"kind{kind}" / f"{number}.png")
    export(capsys, "runs/conv4", "--format", "huggingface", "--out", "hub")
    images = photographs(1, 28)
    ours, theirs = wanted("hub", images), wanted("runs/conv4", images)
    assert ours.keys() == theirs.keys() == {"backbone", "projector"}
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    found = []
    for place in ("hub", "runs/conv4"):
        capsys.readouterr()
        task = ["--ways", "3", "--shots", "1", "--queries", "2", "--episodes", "4", "--heads", "prototype", "--no-reference", "-q"]
        assert fewshot.main(["eval", place, "--data", "folder:photos", *task, "--device", "cpu", "--json"]) == 0
        found.append([(row["feature"], row["mean"]) for row in json.loads(capsys.readouterr().out)["rows"]])
    assert found[0] == found[1]
    again, _ = export(capsys, "hub", "--format", "exported", "--out", "again.pt2")
    assert again["about"]["recipe_sha256"] != ""
    assert ssl.main(["inspect", "hub"]) == 0
    assert read(Path("hub")).recipe.data.settings["root"] == "my photos"


def test_huggingface_hubs_mixin_opens_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("huggingface_hub")
    from kinshot.exports.hub import HubModel

    result, _ = export(capsys, "runs/conv4", "--format", "huggingface", "--out", "hub")
    assert any("HubModel.from_pretrained('hub')" in line for line in result["open it with"])
    images = photographs(1, 28)
    model = HubModel.from_pretrained("hub")
    assert torch.equal(model.embed(images)["projector"], wanted("hub", images)["projector"])
    assert torch.equal(model(images).detach(), wanted("hub", images)["backbone"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: os.truncate(folder / "model.safetensors", 1000), "is damaged or was changed"),
        (lambda folder: (folder / "projector.safetensors").unlink(), "cannot read hub/projector.safetensors"),
        (lambda folder: (folder / "config.yaml").write_text("name: other\n"), "config.yaml is damaged or was changed"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not valid JSON"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "looks like a Hugging Face model folder"),
    ],
)
def test_a_damaged_folder_is_refused(damage: Any, message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, "runs/conv4", "--format", "huggingface", "--out", "hub")
    damage(here / "hub")
    with pytest.raises(CheckpointError, match=message):
        kinshot.load("hub")


def test_a_folder_of_a_newer_version_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, "runs/conv4", "--format", "huggingface", "--out", "hub")
    config = json.loads((here / "hub" / "config.json").read_text())
    config["kinshot"]["schema_version"] = 2
    (here / "hub" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="newer than this kinshot reads"):
        kinshot.load("hub")


# -- the model card


def test_the_card_says_what_is_known_and_that_the_rest_is_not(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Path(__file__).resolve().parents[1] / "docs" / "results" / "glyphs_demo.json"
    _, said = export(capsys, "runs/known", "--format", "huggingface", "--out", "hub", "--results", results)
    assert "do not name runs/known" in said
    text = (here / "hub" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["library_name"], head["license"], head["pipeline_tag"]) == ("timm", "unknown", "image-feature-extraction")
    assert "licence of the data: unknown to kinshot" in text
    row = next(row for row in json.loads(results.read_text())["rows"] if row["label"] == "pretrained, joint, prototype")
    assert f"| pretrained, joint, prototype | {row['metric']} | {row['mean']:.2f} ± {row['ci95']:.2f} | {row['n']} |" in text
    assert "episode hashes" in text
    assert f"SHA-256 `{recipe_hash(read(Path('runs/known')).checkpoint.config)}`" in text


def test_a_backbones_folder_says_that_its_training_is_not_known(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = export(capsys, "timm:test_resnet", "--format", "huggingface", "--out", "hub")
    assert "they are random (seed 0)" in said
    text = (here / "hub" / "README.md").read_text(encoding="utf-8")
    assert "trained on: unknown" in text
    assert set(wanted("hub", photographs(3, 160))) == {"backbone"}
    loaded = read(Path("hub"))
    assert loaded.checkpoint.origin == "untrained: random weights of seed 0"


def test_an_unfinished_run_is_exported_when_asked_and_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(capsys, "runs/halted", "--format", "huggingface", "--out", "hub", "--allow-unfinished")
    assert "training did not get to its end" in (here / "hub" / "README.md").read_text()
    with pytest.warns(UserWarning, match="did not get to the end"):
        kinshot.load("hub")
