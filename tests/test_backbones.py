"""Backbones that were trained elsewhere stand wherever a checkpoint does: by name, with their own preparation, and nothing unsaid."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import kinshot
from kinshot.cli import fewshot, ssl
from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.learn.features import weights_hash
from kinshot.recipes.backbones import is_backbone, read_backbone
from kinshot.recipes.loaded import read
from kinshot.runs.embedder import from_checkpoint
from kinshot.studies.results import SEEN
from tests.onnx_files import onnx_file

MODEL = "test_efficientnet"  # a third of a million weights, 160 pixels, bicubic, crop 0.95
SMALL = "mobilenet_v3_small"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the optional package timm")


def timm_model() -> nn.Module:
    import timm

    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        return timm.create_model(MODEL, pretrained=False).eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of 4 classes and of 2 others, the weights of a model of timm and of one of torchvision, and an ONNX file."""
    import torchvision

    folder, rng = tmp_path_factory.mktemp("backbones"), np.random.default_rng(0)
    for kind in range(6):
        part = folder / ("photos" if kind < 4 else "others") / f"kind{kind}"
        part.mkdir(parents=True)
        for number in range(6):
            Image.fromarray((rng.uniform(0, 60, (24, 24, 3)) + 30 * kind).astype(np.uint8)).save(part / f"{number}.png")
    for kind in range(4):  # more of the first four
        (folder / "later" / f"kind{kind}").mkdir(parents=True)
        for number in range(2):
            pixels = (rng.uniform(0, 60, (24, 24, 3)) + 30 * kind).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "later" / f"kind{kind}" / f"{number}.png")
    save_file(timm_model().state_dict(), folder / "w.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in timm_model().state_dict().items()}}, folder / "w.pth")
    save_file(torchvision.models.get_model(SMALL, weights=None, num_classes=3).state_dict(), folder / "tv.safetensors")
    onnx_file(folder / "t.onnx")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def call(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[Any, str]:
    """A command with --json: what it printed, and what it said."""
    main = {"ssl": ssl.main, "fewshot": fewshot.main}[words[0]]
    done = main([*words[1:], "--json"])
    printed = capsys.readouterr()
    assert done == code, printed.err[-2000:]
    return (json.loads(printed.out) if code == 0 else None), printed.err


# -- every command that takes a checkpoint

TIMM, ONNX = f"timm:{MODEL}:w.pth", "onnx:t.onnx"
EPISODES = ["--data", "folder:photos", "--ways", "2", "--shots", "1", "--queries", "2", "--episodes", "4"]
LABELLED = ["--data", "folder:photos", "--test", "folder:later"]
COMMANDS: dict[str, list[str]] = {
    "eval": ["fewshot", "eval", "X", *EPISODES, "--heads", "prototype"],
    "report": ["fewshot", "report", "X", *EPISODES, "--heads", "prototype", "--out", "page", "--overwrite"],
    "crossdomain": ["fewshot", "crossdomain", "X", *EPISODES],
    "lowshot": ["fewshot", "lowshot", "X", "--data", "folder:photos", "--shots", "1", "--draws", "2"],
    "retrieve": ["fewshot", "retrieve", "X", "--data", "folder:photos"],
    "probe": ["ssl", "probe", "X", "--data", "folder:photos"],
    "measure": ["ssl", "measure", "X", *EPISODES, "--repeats", "1"],
    "inspect": ["ssl", "inspect", "X"],
    "subclasses": ["ssl", "subclasses", "X", "--data", "folder:photos", "--feature", "backbone"],
    "labels": ["ssl", "labels", "X", *LABELLED, "--counts", "1", "--draws", "1", "--supervised-draws", "0"],
}


SENSORS = {"missing": ["--data", "folder:photos", "--test", "folder:later"], "stream": ["steps.jsonl"], "nodes": []}


def commands_of_checkpoints() -> set[str]:
    """The commands that have an argument of checkpoints or runs."""
    found = set()
    for group in (ssl.ssl, fewshot.fewshot):
        for name, command in group.commands.items():
            if any(parameter.name in ("checkpoints", "checkpoint", "runs") for parameter in command.params):
                found.add(name)
    return found


def test_every_command_of_checkpoints_is_here() -> None:
    # the first two begin with the classifier that a run learned of base classes, and say that a backbone has none; those of SENSORS take
    # encoders of sensors alone, or of a graph's nodes
    assert commands_of_checkpoints() == {*COMMANDS, "generalized", "imprint", *SENSORS}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("missing", "one modality, so that none can be missing"),
        ("stream", f"{TIMM} does not stream"),
        ("nodes", "measures encoders of a graph's nodes"),
    ],
)
def test_commands_of_sensors_refuse_backbones(command: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "steps.jsonl").write_text('{"acc": [1, 2, 3]}\n')
    assert ssl.main([command, TIMM, *SENSORS[command]]) in (2, 3)
    said = capsys.readouterr().err
    assert message in said


@pytest.mark.parametrize("name", [TIMM, ONNX])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_backbones(command: str, name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, said = call(capsys, *(name if word == "X" else word for word in COMMANDS[command]))
    assert result
    if command not in ("inspect", "report"):
        assert result["seeds"] == []
        assert result["pretrained_by"] == [f"# {name}: not trained here: {'weights of w.pth' if name == TIMM else 't.onnx'}"]
        assert f"what {name} was trained on is not known here" in json.dumps(result[SEEN])
    if name == TIMM and command not in ("inspect", "measure"):
        assert "names begin with 'module.'" in said


@pytest.mark.parametrize("command", ["generalized", "imprint"])
def test_commands_of_base_classes_say_what_a_backbone_lacks(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--base", "folder:photos"] if command == "generalized" else []
    _, said = call(capsys, "fewshot", command, ONNX, *data, "--novel", "folder:others", code=2)
    assert "was not trained here" in said


# -- what is read and said


def test_wrapped_weights_are_the_plain_ones_and_features_are_timms(here: Path) -> None:
    plain, wrapped = (from_checkpoint(read(Path(f"timm:{MODEL}:{file}"))) for file in ("w.safetensors", "w.pth"))
    images = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.embed(images)["backbone"], wrapped.embed(images)["backbone"])
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        model = timm_model()
        model.reset_classifier(0)  # type: ignore[operator]
        expected = model((images.float() / 255 - mean) / std)
    torch.testing.assert_close(plain.embed(images), {"backbone": expected}, rtol=1e-4, atol=1e-5)


def test_the_preparation_is_the_librarys_and_what_is_left_out_is_said(here: Path) -> None:
    checkpoint, _ = read_backbone(f"timm:{MODEL}:w.safetensors")
    assert checkpoint.state["input"]["interpolation"] == "bicubic"
    assert (checkpoint.state["input"]["size"], checkpoint.state["input"]["mean"]) == (160, (0.485, 0.456, 0.406))
    assert any("crop_pct 0.95" in note for note in checkpoint.notes)
    assert any("classifier classifier is no part" in note for note in checkpoint.notes)
    checkpoint, _ = read_backbone(f"torchvision:{SMALL}:tv.safetensors")
    assert (checkpoint.state["input"]["size"], checkpoint.state["input"]["interpolation"]) == (224, "bilinear")
    assert checkpoint.tensors["rows"]["weight"].shape == (3, 1024)


@pytest.mark.parametrize("name", [f"timm:{MODEL}", f"torchvision:{SMALL}"])
def test_without_weights_a_model_is_untrained_and_says_so(name: str) -> None:
    before = torch.get_rng_state()
    first, second = read_backbone(name)[0], read_backbone(name)[0]
    assert torch.equal(before, torch.get_rng_state())
    assert weights_hash(first.encoder) == weights_hash(second.encoder)
    assert first.origin == "untrained: random weights of seed 0"
    assert "save_file" in first.notes[0]
    assert "are random" in first.notes[0]


def test_an_untrained_model_is_no_pretrained_row(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, said = call(capsys, "fewshot", "eval", f"timm:{MODEL}", *EPISODES)
    assert {row["model"] for row in result["rows"]} == {f"timm:{MODEL}", "raw pixels"}
    assert "they are random (seed 0)" in said
    assert result["protocol"]["training"] == "untrained: random weights of seed 0"


def test_a_projector_that_is_not_there_is_refused_and_not_made_up(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = call(capsys, "fewshot", "eval", ONNX, *EPISODES, "--features", "backbone,joint", code=2)
    assert "has no joint, only its backbone" in said
    result, _ = call(capsys, "fewshot", "eval", ONNX, *EPISODES)
    assert {row["feature"] for row in result["rows"]} == {"backbone", "pixels"}


def test_data_of_its_own_are_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["fewshot", "eval", ONNX], ["ssl", "probe", ONNX], ["fewshot", "lowshot", ONNX]):
        _, said = call(capsys, *words, code=2)
        assert "has no data of its own" in said


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("timm:", ConfigError, "got no name"),
        ("onnx:", ConfigError, "got no file"),
        ("timm:test_efficientnett", ConfigError, "did you mean"),
        ("torchvision:resnet19", ConfigError, "did you mean"),
        (f"timm:{MODEL}:nowhere.pth", CheckpointError, "never downloaded"),
        (f"timm:{MODEL}:t.onnx", CheckpointError, "expected weights in a file with the ending"),
        ("timm:test_resnet:w.safetensors", CheckpointError, "do not fit the model: .* missing: .*; .* left over: "),
        ("nowhere.onnx", CheckpointError, r"nowhere\.onnx"),
    ],
)
def test_bad_names_and_files(name: str, error: type[Exception], message: str, here: Path) -> None:
    with pytest.raises(error, match=message):
        read_backbone(name)


def test_a_folder_of_that_name_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_backbone("efficientnet_lite0")
    (tmp_path / "efficientnet_lite0").mkdir()
    (tmp_path / "x.onnx").mkdir()
    assert not is_backbone("efficientnet_lite0")
    assert not is_backbone("x.onnx")
    assert not is_backbone("runs/x")


def test_load_takes_them_too(here: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = kinshot.load(TIMM)
    assert any("crop_pct" in str(one.message) for one in caught)
    assert set(model.embed(torch.zeros(2, 3, 40, 30, dtype=torch.uint8))) == {"backbone"}
    assert kinshot.load(ONNX).embed(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))["backbone"].shape == (2, 5)


def test_an_onnx_file_that_does_not_say_its_normalisation_gets_imagenets_and_that_is_said(tmp_path: Path) -> None:
    onnx_file(tmp_path / "t.onnx", metadata=False)
    checkpoint, _ = read_backbone(str(tmp_path / "t.onnx"))
    assert checkpoint.state["input"]["mean"] == (0.485, 0.456, 0.406)
    assert "taken are those of ImageNet" in checkpoint.notes[0]
    assert read_backbone(str(tmp_path / "t.onnx"), (0.1,) * 3, (0.2,) * 3)[0].state["input"]["mean"] == (0.1,) * 3


# -- training that begins with one


RECIPE = """
data: {name: folder, root: photos, size: 32}
views: {name: warp}
encoder: {name: auto}
projector: {hidden: 8, dim: 4}
method: {name: simclr}
train: {epochs: 1, batch_size: 8, threads: 1, precision: fp32}
monitor: {knn_every: 0, projector_points: 0, tensorboard: false}
"""


def test_training_begins_with_a_backbone_and_its_frozen_layers(here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    freeze = "train.freeze=[conv_stem, bn1, blocks.0]"
    call(capsys, "ssl", "pretrain", str(tmp_path / "r.yaml"), f"init={TIMM}", freeze, "--out", str(tmp_path / "run"))
    before, after = read_backbone(TIMM)[0], load_checkpoint(tmp_path / "run")
    assert after.config["encoder"] == {"name": "timm", "model": MODEL}
    assert (after.state["input"]["size"], after.state["input"]["interpolation"]) == (32, "bicubic")
    moved = {name for name, value in before.encoder.items() if not torch.equal(value, after.encoder[name])}
    assert moved == {name for name in before.encoder if not name.startswith(("conv_stem.", "bn1.", "blocks.0."))}
    result, _ = call(capsys, "fewshot", "eval", str(tmp_path / "run"), TIMM, *EPISODES, "--no-reference")
    assert {row["model"] for row in result["rows"]} == {str(tmp_path / "run"), TIMM}
    assert any(f"what {TIMM} was trained on is not known here" in json.dumps(one) for one in result[SEEN])


def test_a_backbone_teaches(here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = RECIPE.replace("simclr", "student").replace("warp}", "warp, views: 1}").replace("auto", "conv4, width: 4")
    (tmp_path / "r.yaml").write_text(recipe)
    teachers = [(TIMM, "blocks.1"), (f"torchvision:{SMALL}:tv.safetensors", "features.2"), (ONNX, "backbone")]
    for number, (teacher, tap) in enumerate(teachers):
        loss = "rkd_distance" if tap == "backbone" else f"attention_transfer:student=blocks.2:teacher={tap}"
        words = [f"teacher={teacher}", "distill.adapt=true", f"distill.losses=[{loss}]", "--out", str(tmp_path / f"s{number}")]
        result, _ = call(capsys, "ssl", "distill", str(tmp_path / "r.yaml"), *words)
        assert result
